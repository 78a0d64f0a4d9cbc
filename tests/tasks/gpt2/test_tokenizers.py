"""Tokenizers give the ids of the originals, and give text back."""

import json

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2 import tokenizers
from kexue_cli.tasks.gpt2.tokenizers import (
    CharTokenizer,
    SubwordTokenizer,
    from_folder,
    from_state,
    wordpiece,
)

VOCABULARIES = {"bert_base_chinese": "bert-base-chinese-vocab.txt", "clue": "clue-vocab.txt"}
SENTENCE = "The cat sat on the mat; 今天天气不错。\n\tIt's naïve — isn't it?"


@pytest.mark.parametrize("name", VOCABULARIES)
def test_wordpiece_ids_and_text_equal_the_original(data_dir, name):
    folder = data_dir / "gpt2_ml"
    tokenizer = wordpiece(folder / VOCABULARIES[name])
    for case in json.loads((folder / "tokenizer_reference.json").read_text())[name]:
        ids = tokenizer.encode(case["text"])
        assert ids.tolist() == case["original_ids"], case["text"]
        assert tokenizer.decode(ids) == case["bert4keras_decode_of_original_ids"], case["text"]


@pytest.mark.parametrize(("name", "full_stop"), [("bert_base_chinese", 511), ("clue", 545)])
def test_the_full_stop_is_looked_up_in_the_vocabulary(data_dir, name, full_stop):
    tokenizer = wordpiece(data_dir / "gpt2_ml" / VOCABULARIES[name])
    assert tokenizer.id_of("。") == full_stop
    assert tokenizer.end_id() == 102


def test_unknown_characters_are_counted(data_dir):
    tokenizer = wordpiece(data_dir / "gpt2_ml" / VOCABULARIES["bert_base_chinese"])
    assert tokenizer.unknown("他说“好”") == 2
    assert CharTokenizer("abc").unknown("abcxay") == 2
    assert CharTokenizer("abc").left_out("a𠀀xbx") == "𠀀xx"


def test_characters_there_and_back():
    tokenizer = CharTokenizer.of_texts(["to be", "𠀀 or not"], end=True)
    assert tokenizer.vocab_size == len(set("to be𠀀 or not")) + 1
    ids = tokenizer.encode("not 𠀀 be!")
    end = tokenizer.end_id()
    assert end is not None
    assert tokenizer.decode([*ids, end]) == "not 𠀀 be"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_trained_tokenizer_survives_its_state_and_spells_its_texts(kind):
    tokenizer = tokenizers.train(kind, [SENTENCE] * 3, 400)
    again = from_state(tokenizer.state())
    np.testing.assert_array_equal(again.encode(SENTENCE), tokenizer.encode(SENTENCE))
    if kind == "bpe":
        assert again.decode(again.encode(SENTENCE)) == SENTENCE
    assert tokenizer.unknown(SENTENCE) == 0


def test_byte_bpe_from_its_files_equals_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    trained = tokenizers.train("bpe", [SENTENCE] * 3, 300)
    assert isinstance(trained, SubwordTokenizer)
    trained.inner.model.save(str(tmp_path))
    ours = from_folder(tmp_path)
    peer = transformers.GPT2Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert ours is not None
    assert ours.encode(SENTENCE).tolist() == peer.encode(SENTENCE)
    assert ours.id_of("<|endoftext|>") == 0


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.txt does not exist"):
        wordpiece(tmp_path / "nothing.txt")
    assert from_folder(tmp_path) is None
