"""Exactness of the n-gram counts: against a plain Counter, whatever the chunks, memory and rule."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent import count_plan, ngram_runs, ngrams, reading, symbols
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.count_plan import CountPlan
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.ngrams import count_ngrams
from kexue_cli.tasks.minent.splitting import Splitting
from tests.tasks.minent.counting import corpus_of

ALPHABETS = {"han": "天地玄黄宇宙洪荒日月盈昃", "latin": "abcdefg", "mixed": "aé天я𠀀ß"}


def random_lines(alphabet: str, seed: int, lines: int = 300, longest: int = 40) -> list[str]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(alphabet) + 1)
    return [
        "".join(rng.choice(list(alphabet), rng.integers(1, longest), p=weights / weights.sum()))
        for _ in range(lines)
    ]


def counted(lines: list[str], m: int) -> Counter[str]:
    return Counter(line[i : i + m] for line in lines for i in range(len(line) - m + 1))


def kenlm_records(lines: list[str], order: int) -> Counter[tuple[str, ...]]:
    """What KenLM's count_ngrams writes for characters as words, marks included."""
    records: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        padded = ["<s>"] * (order - 1) + list(line) + ["</s>"]
        records.update(tuple(padded[i : i + order]) for i in range(len(padded) - order + 1))
    return records


@pytest.fixture
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force many jobs, many merge ranges and runs on disk on a small text."""
    plan = CountPlan(
        workers=2, job_symbols=700, memory_bytes=9000, merge_records=500, buffer_bytes=1 << 12
    )
    monkeypatch.setattr(CountPlan, "within", staticmethod(lambda *_: plan))
    monkeypatch.setattr(symbols, "CHUNK_CHARACTERS", 128)
    monkeypatch.setattr(reading.text_blocks, "__defaults__", (128,))
    monkeypatch.setattr(ngram_runs, "SAMPLES_PER_RUN", 16)
    monkeypatch.setattr(count_plan, "LEAST_BUFFER", 8)


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_every_order_equals_a_plain_counter(tmp_path: Path, alphabet: str, order: int) -> None:
    lines = random_lines(ALPHABETS[alphabet], seed=order)
    counts = count_ngrams(corpus_of(tmp_path / "t.txt", lines), order)
    for m in range(1, order + 1):
        assert counts.as_dict(m) == dict(counted(lines, m))


@pytest.mark.usefixtures("small_jobs")
@pytest.mark.parametrize("rule", ngrams.RULES)
def test_counting_out_of_core_gives_the_same_bits(
    tmp_path: Path, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path / "t.txt", random_lines(ALPHABETS["han"], seed=7))
    chopped = count_ngrams(corpus, 4, rule=rule, scratch=tmp_path / "scratch")
    monkeypatch.undo()
    whole = count_ngrams(corpus, 4, rule=rule)
    np.testing.assert_array_equal(chopped.records.keys, whole.records.keys)
    np.testing.assert_array_equal(chopped.records.counts, whole.records.counts)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.usefixtures("small_jobs")
def test_what_lies_on_disk_is_read_once_from_beginning_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path / "t.txt", random_lines(ALPHABETS["han"], seed=9))
    stretches: list[tuple[str, int, int]] = []
    read = ngram_runs._read

    def watched(file: Any, place: int, kind: Any, length: int) -> Any:
        stretches.append((file.name, place, place + length * kind.itemsize))
        return read(file, place, kind, length)

    monkeypatch.setattr(ngram_runs, "_read", watched)
    count_ngrams(corpus, 4, scratch=tmp_path / "scratch")
    for name in {name for name, *_ in stretches}:
        places = sorted((begin, end) for file, begin, end in stretches if file == name)
        assert len(places) > 20
        assert [begin for begin, _ in places] == [0, *(end for _, end in places[:-1])]


@pytest.mark.usefixtures("small_jobs")
def test_one_line_longer_than_every_chunk_is_counted_across_their_borders(tmp_path: Path) -> None:
    line = "".join(random_lines(ALPHABETS["han"], seed=3))
    counts = count_ngrams(corpus_of(tmp_path / "t.txt", [line]), 4)
    assert counts.as_dict(4) == dict(counted([line], 4))


@pytest.mark.usefixtures("small_jobs")
def test_the_kenlm_rule_equals_padded_windows(tmp_path: Path) -> None:
    lines = random_lines(ALPHABETS["latin"], seed=5, longest=7)
    counts = count_ngrams(corpus_of(tmp_path / "t.txt", lines), 4, rule="kenlm")
    names = {1: "<s>", 2: "</s>"} | {i + 3: chr(c) for i, c in enumerate(counts.table.code_points)}
    bits = counts.table.bits
    found = {
        tuple(
            names[(int(key) >> (bits * place)) & ((1 << bits) - 1)] for place in (3, 2, 1, 0)
        ): int(n)
        for key, n in zip(counts.records.keys, counts.records.counts, strict=True)
    }
    assert found == dict(kenlm_records(lines, 4))


class ChunksOnly:
    """A corpus that is read through `chunks` alone."""

    def __init__(self, corpus: Corpus) -> None:
        self.chunks = corpus.chunks


@pytest.mark.parametrize("rule", ngrams.RULES)
@pytest.mark.parametrize("spaces", ["cut", "strip", "gold"])
@pytest.mark.parametrize("sentence_ends", [True, False])
def test_text_and_its_chunks_give_the_same_counts(
    tmp_path: Path, rule: str, spaces: str, sentence_ends: bool
) -> None:
    rng = np.random.default_rng(2)
    pool = [*"天地玄黄ab12，。 \t/", "\r\n", "\n", "\n\n", "\r"]
    path = tmp_path / "t.txt"
    path.write_bytes("".join(rng.choice(pool, 5000)).encode())
    splitting = Splitting(Alphabet.named("han"), spaces, sentence_ends, separators="/")
    corpus = Corpus(Source((path,)), splitting)
    counts = count_ngrams(corpus, 3, rule=rule).as_dict(3)
    assert counts == count_ngrams(ChunksOnly(corpus), 3, rule=rule).as_dict(3)
    assert len(counts) > 10


def test_a_number_counts_as_the_letter_0(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("numbers.txt", "zeros.txt")}
    paths["numbers.txt"].write_text("天12地3.5%玄\n2008地12玄黄4\n", encoding="utf-8")
    paths["zeros.txt"].write_text("天0地0玄\n0地0玄黄0\n", encoding="utf-8")
    joined = Splitting(Alphabet.named("han"), numbers="join")
    apart = Splitting(Alphabet.named("han", keep_digits=False))
    found, expected = (
        count_ngrams(Corpus(Source((path,)), splitting), 3).as_dict(3)
        for path, splitting in zip(paths.values(), (joined, apart), strict=True)
    )
    assert found == expected
    assert found["地0玄"] == 2


def test_one_character_repeated_is_counted(tmp_path: Path) -> None:
    counts = count_ngrams(corpus_of(tmp_path / "t.txt", ["a" * 1000]), 4)
    assert counts.as_dict(4) == {"aaaa": 997}
    assert counts.as_dict(1) == {"a": 1000}


def test_counts_can_be_saved_and_loaded(tmp_path: Path) -> None:
    lines = random_lines(ALPHABETS["mixed"], seed=1)
    corpus = corpus_of(tmp_path / "t.txt", lines)
    count_ngrams(corpus, 3).save(tmp_path / "saved")
    count_ngrams(corpus, 3, folder=tmp_path / "direct")
    for name in ("keys.u64", "counts.u64", "counts.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()
    assert ngrams.load(tmp_path / "saved").as_dict(2) == dict(counted(lines, 2))


def test_a_damaged_counts_folder_is_named(tmp_path: Path) -> None:
    count_ngrams(corpus_of(tmp_path / "t.txt", ["abcabc"]), 2).save(tmp_path / "saved")
    (tmp_path / "saved" / "counts.u64").write_bytes(bytes(8))
    with pytest.raises(UserError, match=r"counts\.u64: expected 4 records, found 1"):
        ngrams.load(tmp_path / "saved")
    header = tmp_path / "saved" / "counts.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 9}))
    with pytest.raises(UserError, match="expected format 1, found 9"):
        ngrams.load(tmp_path / "saved")
    with pytest.raises(UserError, match="expected a folder of n-gram counts"):
        ngrams.load(tmp_path / "nowhere")


def test_an_order_larger_than_the_longest_line_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path / "t.txt", ["ab", "abc"])
    with pytest.raises(
        UserError, match=r"model\.order=4 is larger than the longest.*\(3 characters"
    ):
        count_ngrams(corpus, 4, folder=tmp_path / "counts")
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_an_order_that_does_not_fit_a_key_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "t.txt", ["".join(chr(0x4E00 + i) for i in range(3000))])
    with pytest.raises(UserError, match=r"3000 distinct characters \(12 bits each\) at most 5"):
        count_ngrams(corpus, 6)


def test_a_folder_for_runs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(ConfigError, match=r"model\.scratch: expected a folder.*file"),
            ngram_runs.scratch_folder(place),
        ):
            pass


def test_a_full_disk_is_named_with_the_setting(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(UserError, match=r"/dev/full.*No space left.*set model\.scratch"),
    ):
        ngram_runs._write(full, np.zeros(9, np.uint64))


def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    corpus = corpus_of(tmp_path / "t.txt", ["abcabc"])
    with pytest.raises(KeyboardInterrupt):
        count_ngrams(corpus, 2, folder=tmp_path / "counts", advance=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from kexue_cli.tasks.minent.ngram_runs import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "run0.keys").write_bytes(b"1")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert list(tmp_path.glob("*/run0.keys"))
    with (
        ngram_runs.scratch_folder(tmp_path) as mine,
        ngram_runs.scratch_folder(tmp_path) as other,
    ):
        assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    assert not list(tmp_path.iterdir())
