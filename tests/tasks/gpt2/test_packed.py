"""Corpora: split and packed as said, documents kept apart, the same batches after a resume."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.gpt2 import packed, texts, tokenizers
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.loss import IGNORED, token_losses
from kexue_cli.tasks.gpt2.model import Gpt, initialise
from kexue_cli.tasks.gpt2.packed import training_batches, windows_per_epoch
from kexue_cli.tasks.gpt2.texts import TextSource, find_files
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer, Tokenizer
from kexue_cli.tasks.gpt2.training import batch_loss, logits_of, text_metrics

TEXT = "".join(chr(97 + i % 26) + ("\n" if i % 40 == 39 else "") for i in range(1000))


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def tokens_of(source: TextSource, tmp_path: Path, end: bool = False):
    tokenizer = CharTokenizer.of_texts(source.texts(), end)
    splits, checksum = packed.load(packed.pack(source, tokenizer, tmp_path / "cache"))
    return splits, checksum, tokenizer


def test_the_last_tenth_of_a_text_is_for_validation(tmp_path):
    source = TextSource((written(tmp_path / "a.txt", TEXT),))
    splits, _, tokenizer = tokens_of(source, tmp_path)
    cut = int(0.9 * len(TEXT))
    assert tokenizer.decode(splits["train"].ids) == TEXT[:cut]
    assert tokenizer.decode(splits["valid"].ids) == TEXT[cut:]
    assert splits["valid"].characters == len(TEXT) - cut


def test_long_files_are_read_in_pieces_that_make_up_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "PIECE_CHARACTERS", 100)
    source = TextSource((written(tmp_path / "a.txt", TEXT),))
    splits, _, tokenizer = tokens_of(source, tmp_path)
    both = [*splits["train"].ids, *splits["valid"].ids]
    assert tokenizer.decode(both) == TEXT
    assert len(splits["train"].ids) == int(0.9 * len(TEXT))


def test_jsonl_lines_are_documents_with_an_end_mark(tmp_path):
    lines = [json.dumps({"text": word}) for word in ("aa", "b", "ccc", "dd", "e")]
    source = TextSource((written(tmp_path / "a.jsonl", "\n".join(lines) + "\n"),), "text", 0.2)
    splits, _, tokenizer = tokens_of(source, tmp_path, end=True)
    end = tokenizer.end_id()
    assert splits["train"].ids.tolist() == [0, 0, end, 1, end, 2, 2, 2, end, 3, 3, end]
    assert splits["train"].starts.tolist() == [0, 3, 5, 9]
    assert splits["valid"].ids.tolist() == [4, end]


def test_blank_lines_move_no_document_to_the_other_split(tmp_path):
    lines = [json.dumps({"text": letter}) for letter in "abcdefghij"]
    for name, between in (("close", "\n"), ("apart", "\n\n \n")):
        path = written(tmp_path / f"{name}.jsonl", "\n" + between.join(lines))
        pieces = list(TextSource((path,), valid_fraction=0.3).pieces())
        assert "".join(p.text for p in pieces if p.split == "train") == "abcdefg"
        assert "".join(p.text for p in pieces if p.split == "valid") == "hij"


def test_the_mark_before_a_text_is_no_part_of_it(tmp_path):
    source = TextSource((written(tmp_path / "a.txt", "\ufeff" + TEXT),))
    assert "".join(source.texts()) == TEXT
    line = json.dumps({"text": TEXT})
    source = TextSource((written(tmp_path / "a.jsonl", f"\ufeff{line}\n{line}\n"),))
    assert list(source.texts()) == [TEXT, TEXT]


def test_unknown_characters_are_counted_and_divide_nothing(tmp_path):
    text = "abxab是b" * 100
    source = TextSource((written(tmp_path / "a.txt", text),))
    splits, _ = packed.load(packed.pack(source, CharTokenizer("ab"), tmp_path))
    valid = splits["valid"]
    assert (len(valid), valid.characters, valid.bytes) == (50, 50, 50)
    assert (valid.unknown, valid.examples) == (20, "x是")
    assert valid.unknown_share == pytest.approx(2 / 7)
    assert valid.first(25).unknown == 10


def test_words_that_became_unk_are_counted(tmp_path):
    tokenizer = tokenizers.train("wordpiece", ["ab ab"], 20)
    source = TextSource((written(tmp_path / "a.txt", "ab xy " * 50),))
    splits, _ = packed.load(packed.pack(source, tokenizer, tmp_path))
    assert (splits["valid"].unknown, splits["valid"].unknown_share) == (5, 0.5)


def test_packed_tokens_are_used_again_until_the_text_changes(tmp_path):
    path = written(tmp_path / "a.txt", TEXT)
    tokenizer: Tokenizer = CharTokenizer.of_texts([TEXT])
    first = packed.pack(TextSource((path,)), tokenizer, tmp_path)
    stamp = (first / "train.bin").stat().st_mtime_ns
    assert packed.pack(TextSource((path,)), tokenizer, tmp_path) == first
    assert (first / "train.bin").stat().st_mtime_ns == stamp
    written(path, TEXT + "more")
    assert packed.pack(TextSource((path,)), tokenizer, tmp_path) != first
    assert not list((tmp_path / "gpt2").glob(".packing-*"))


def test_batches_from_a_later_step_are_those_of_an_unbroken_run(tmp_path):
    splits, _, _ = tokens_of(TextSource((written(tmp_path / "a.txt", TEXT),)), tmp_path)
    whole = list(itertools.islice(training_batches(splits["train"], 16, 3, 7, 0), 60))
    resumed = itertools.islice(training_batches(splits["train"], 16, 3, 7, 41), 19)
    for one, other in zip(whole[41:], resumed, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


def test_ranks_share_the_batches_of_one_process(tmp_path):
    splits, _, _ = tokens_of(TextSource((written(tmp_path / "a.txt", TEXT),)), tmp_path)
    alone = training_batches(splits["train"], 16, 4, 7, 5)
    halves = [training_batches(splits["train"], 16, 2, 7, 5, rank, 2) for rank in (0, 1)]
    for _ in range(30):
        both = torch.cat([next(half).inputs for half in halves])
        assert torch.equal(next(alone).inputs, both)


def test_an_epoch_covers_the_text_once(tmp_path):
    splits, _, _ = tokens_of(TextSource((written(tmp_path / "a.txt", TEXT),)), tmp_path)
    count = windows_per_epoch(len(splits["train"]), 16)
    starts = packed.epoch_starts(count, 16, 0, 0)
    assert len(set(starts.tolist())) == count
    assert len(set((starts % 16).tolist())) == 1
    assert starts.max() + 16 < len(splits["train"])


def test_documents_do_not_see_each_other_and_positions_begin_anew():
    arch = Architecture(vocab_size=11, context=12, width=16, layers=2, heads=2, inner=32)
    model = Gpt(arch).eval()
    initialise(model, torch.Generator().manual_seed(0))
    ids = np.random.default_rng(0).integers(0, 11, 13)
    tokens = packed.Tokens(ids, np.array([0, 5, 9]), 13, 13)
    batch = tokens.batch(np.array([0]), 12)
    losses = token_losses(logits_of(model, batch), batch.targets)[0]
    assert (batch.targets[0] == IGNORED).nonzero()[:, 0].tolist() == [4, 8]
    for begin, end in ((0, 5), (5, 9), (9, 13)):
        alone = torch.from_numpy(ids[begin:end])[None]
        expected = token_losses(model(alone[:, :-1]), alone[:, 1:])[0]
        torch.testing.assert_close(losses[begin : end - 1], expected)
    assert batch_loss(model, batch).count == 10


@pytest.mark.parametrize("stride", [None, 4, 1])
@torch.inference_mode()
def test_metrics_score_every_token_once(stride):
    arch = Architecture(vocab_size=11, context=8, width=16, layers=1, heads=2, inner=32)
    model = Gpt(arch).eval()
    initialise(model, torch.Generator().manual_seed(0))
    ids = np.random.default_rng(0).integers(0, 11, 45)
    tokens = packed.Tokens(ids, np.array([0]), 90, 135)
    found = text_metrics(model, tokens, 8, torch.device("cpu"), stride=stride)
    total = 0.0
    for target in range(1, 45):
        step = stride or 8
        # the first window that reaches the target, windows beginning at multiples of the stride
        begin = max(0, -(-(target - 8) // step)) * step
        begin = min(begin, 44 - 8)
        logits = model(torch.from_numpy(ids[begin:target])[None])[0, -1]
        total -= float(logits.log_softmax(-1)[ids[target]])
    assert found["loss"] == pytest.approx(total / 44, abs=1e-5)
    assert found["nats_per_character"] == pytest.approx(found["loss"] * 45 / 90)
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * 45 / 135 / np.log(2))


def test_text_shorter_than_a_context_is_refused():
    with pytest.raises(UserError, match="20 tokens, less than one context of 64"):
        windows_per_epoch(20, 64)


@pytest.mark.parametrize(
    ("name", "text", "purpose"),
    [
        ("empty.txt", "", "train on"),
        ("one.jsonl", '{"text": "abc"}\n', "train on"),
        ("last.jsonl", '{"text": "abc"}\n' * 9 + '{"text": ""}\n', "score"),
        ("few.txt", "0123456789", "score"),
    ],
)
def test_a_text_without_anything_to_train_on_or_to_score_is_named(tmp_path, name, text, purpose):
    source = TextSource((written(tmp_path / name, text),))
    splits, _, _ = tokens_of(source, tmp_path, end=True)
    with pytest.raises(UserError, match=rf"{name}: nothing to {purpose}\."):
        packed.check_splits(splits, source, trains=True)
    if purpose == "train on" and splits["valid"].targets:
        packed.check_splits(splits, source, trains=False)


def test_half_of_a_surrogate_pair_is_refused_with_its_line(tmp_path):
    source = TextSource((written(tmp_path / "a.jsonl", '\n{"text": "a\\ud800b"}\n'),))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: \\ud800, character 2 of the text"):
        list(source.pieces())


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path.*nowhere does not exist"):
        find_files(str(tmp_path / "nowhere"), "*.txt")
    with pytest.raises(ConfigError, match=r"matches data\.pattern='\*\.txt'"):
        find_files(str(tmp_path), "*.txt")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8"):
        list(TextSource((tmp_path / "latin.txt",)).pieces())
    written(tmp_path / "bad.jsonl", '{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl, line 2.*data\.text_key"):
        list(TextSource((tmp_path / "bad.jsonl",)).pieces())
