"""Every form of file gives the same vectors; malformed ones are refused with the place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.run.console import Console
from kexue_cli.tasks.dgcnn.encoding import TextSettings
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.store import Store, build
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.word_vectors import Wanted, load, read, train
from kexue_cli.tasks.dgcnn.words import WordCutter

WORDS = ["白云山", "的", "</s>"]
VECTORS = np.array([[1, -2.5, 0.001], [0, 3, 4], [1e-7, 1, 2]], np.float32)
LINES = [f"{w} {' '.join(map(str, row))}" for w, row in zip(WORDS, VECTORS.tolist(), strict=True)]
BINARY = b"3 3\n" + b"".join(
    word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(WORDS, VECTORS, strict=True)
)


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(["3 3", *LINES, ""]).encode(),
        "\n".join(LINES).encode(),
        "\r\n".join(["3 3", *(line + " " for line in LINES)]).encode("utf-8-sig"),
        "\n".join(LINES).replace(" ", "\t").encode(),
        BINARY,
        b"3 3\n" + BINARY[4:].replace(b"\n", b""),
    ],
    ids=["word2vec", "glove", "fasttext, windows", "tabs", "binary", "binary without line feeds"],
)
def test_forms_of_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v").write_bytes(content)
    found = read(tmp_path / "v")
    assert found.words == WORDS
    np.testing.assert_array_equal(found.vectors, VECTORS)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", words=np.array(WORDS), vectors=VECTORS)
    found = read(tmp_path / "v.npz")
    assert found.words == WORDS
    np.testing.assert_array_equal(found.vectors, VECTORS)


def test_a_word_may_hold_blanks(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("1 2\nNew York 1 2\n", encoding="utf-8")
    assert read(tmp_path / "v").words == ["New York"]


def test_what_gensim_writes_is_read(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    vectors = models.KeyedVectors(3)
    vectors.add_vectors(WORDS, VECTORS)
    for binary in (False, True):
        vectors.save_word2vec_format(str(tmp_path / "v"), binary=binary)
        found = read(tmp_path / "v")
        assert found.words == WORDS
        np.testing.assert_array_equal(found.vectors, VECTORS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 3\n甲 1 2 3\n乙 1 2\n", r"v, line 3: expected a word and 3 numbers, found 3 fields"),
        ("甲 1 2\n乙 1 2 3\n", r"v, line 2: expected a word and 2 numbers, found 4 fields"),
        ("甲 1 2 3\n乙 1 2 3 x\n", r"v, line 2: expected a word and 3 numbers"),
        ("甲 1 2\n乙 1 2\n甲 3 4\n", r"v: the word '甲' has two vectors, the 1\. and the 3\."),
        ("甲 1 nan\n", r"the vector of '甲' holds a value that is not finite"),
        ("", r"holds no vectors"),
        (BINARY[:-8], r"ends within vector 3 of 3"),
        ("甲 1 2\n".encode("gb18030"), r"v, line 1: not UTF-8"),
        ("2 2\n甲 1 2\n".encode("gb18030"), r"v, line 2: not UTF-8"),
        ("2 4\n甲 1 2 3\n乙 1 2 3\n", r"v, line 2: expected a word and 4 numbers"),
        ("1 3\n甲 1 abc 3\n", r"v, line 2: expected a word and 3 numbers"),
        ("3 2\n甲 1 2\n乙 1 2\n", r"its head promises 3 vectors, 2 follow"),
        ("1 2\n甲 1 2\n乙 1 2\n", r"its head promises 1 vectors, 2 follow"),
        (b"99999999999 300" + BINARY[3:], r"ends within vector 1 of 99999999999"),
        (b"2" + BINARY[1:], r"goes on after the 2 vectors"),
        (b"3 0" + BINARY[3:], r"vectors of no numbers"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "v").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read(tmp_path / "v")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"words"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"v\.npz: expected arrays"):
        read(tmp_path / "v.npz")


def test_a_plain_array_is_no_npz(tmp_path: Path) -> None:
    with (tmp_path / "v.npz").open("wb") as file:
        np.save(file, VECTORS)
    with pytest.raises(UserError, match=r"v\.npz: expected arrays"):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"words": np.array(WORDS)},
        {"words": np.array(WORDS[:2]), "vectors": VECTORS},
        {"words": np.array(WORDS), "vectors": VECTORS * 1j},
        {"words": np.array(WORDS), "vectors": np.array([WORDS])},
    ],
)
def test_npz_without_what_is_needed_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(UserError, match=r"v\.npz: expected"):
        read(tmp_path / "v.npz")


def test_another_width_than_wanted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(BINARY)
    with pytest.raises(UserError, match="the vectors have 3 numbers, expected 128"):
        load(Wanted(str(tmp_path / "v"), 128), Console(quiet=True))
    with pytest.raises(UserError, match="cannot be read"):
        load(Wanted(str(tmp_path / "none")), Console(quiet=True))


def store_of(folder: Path, n: int) -> Store:
    passages = [f"白云山在广州第{i % 7}区" for i in range(n)]
    questions = [Question(str(i), "在哪里", (Passage("0", t),)) for i, t in enumerate(passages)]
    settings = TextSettings(Normaliser(), WordCutter("none"), Tagger("none"))
    build(folder, lambda: questions, settings, dict)
    return Store(folder)


def test_vectors_are_trained_on_distinct_texts_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    store = store_of(tmp_path / "s", 60)
    wanted = Wanted("train", 8, min_count=5, epochs=2)
    first = train(wanted, [store], tmp_path, Console(quiet=True))
    # Of 60 passages 7 differ, so that only what all of them hold comes five times.
    assert set(first.words) == set("白云山在广州第区")
    assert first.vectors.shape == (8, 8)
    again = train(wanted, [store], tmp_path, Console(quiet=True))
    np.testing.assert_array_equal(first.vectors, again.vectors)


def test_too_few_texts_for_vectors_are_told(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    store = store_of(tmp_path / "s", 1)
    with pytest.raises(UserError, match="so few texts"):
        train(Wanted("train", 8), [store], tmp_path, Console(quiet=True))
