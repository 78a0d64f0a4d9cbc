"""What a store gives back is what was put in; nothing unfinished stays; memory is bounded."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn import store
from kexue_cli.tasks.dgcnn.encoded_set import EncodedSet, encode_one, ids_of
from kexue_cli.tasks.dgcnn.encoding import TextSettings, WordIndex, encode
from kexue_cli.tasks.dgcnn.features import token_features
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.store import Store, build
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.vocabulary import Vocabulary, codes
from kexue_cli.tasks.dgcnn.words import WordCutter

pytest.importorskip("rjieba")
SETTINGS = TextSettings(Normaliser(), WordCutter("rjieba"), Tagger("rjieba"))
QUESTIONS = [
    Question(
        "q0",
        "白云山的海拔是多少？",
        (
            Passage("a", "白云山坐落在广州，主峰海拔３８２米，海拔382米", "382米", 18),
            Passage("b", "别的", ""),
        ),
        ("382米",),
        source="s",
    ),
    Question("q1", "空", (), ()),
    Question(
        "q2 \ud83d", "谁\ud83d𬭳？", (Passage("c", "𬭳由吉奥索发现", "吉奥索"),), ("吉奥索", "甲")
    ),
]


def built(folder: Path, questions: list[Question] = QUESTIONS) -> Store:
    build(folder, lambda: questions, SETTINGS, lambda: {"problems": {}})
    return Store(folder)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    opened = built(tmp_path / "s")
    assert [opened.record(i) for i in range(len(opened))] == QUESTIONS
    assert opened.n_passages().tolist() == [2, 0, 1]


def test_raw_arrays_are_those_of_the_encoding(tmp_path: Path) -> None:
    opened, index = built(tmp_path / "s"), WordIndex()
    for i, question in enumerate(QUESTIONS):
        wanted, found = encode(question, SETTINGS, index), opened.raw(i)
        for name in ("lengths", "codes", "words", "begins", "features"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        for a, b in zip(found.spans, wanted.spans, strict=True):
            np.testing.assert_array_equal(a, b)
    assert opened.words == list(index)


def test_one_passage_alone_is_the_same_as_among_all(tmp_path: Path) -> None:
    sets = encoded(built(tmp_path / "s"))
    alone, among = sets.question(0, only=1), sets.question(0)
    np.testing.assert_array_equal(alone.chars, among.chars)
    for name in ("chars", "words", "begins", "features", "spans", "annotated"):
        np.testing.assert_array_equal(
            getattr(alone.passages[0], name), getattr(among.passages[1], name)
        )


def encoded(opened: Store) -> EncodedSet:
    rows = np.arange(len(opened))
    words = ["白云山", "382", "米"]
    return EncodedSet([(opened, rows, 2.0)], SETTINGS.normalise, Vocabulary("白云山382米吉"), words)


def test_ids_spans_and_features_of_a_question(tmp_path: Path) -> None:
    sets = encoded(built(tmp_path / "s"))
    question, passage = sets.question(0), sets.question(0).passages[0]
    assert question.chars[:4].tolist() == [2, 3, 4, 1]
    assert question.words[:4].tolist() == [1, 1, 1, 0]
    # Full width and half width are the same answer; the file marks the second.
    assert passage.spans.tolist() == [[13, 16], [20, 23]]
    assert passage.chars[13:17].tolist() == passage.chars[20:24].tolist()
    assert passage.annotated.tolist() == [False, False]
    assert passage.begins[:4].tolist() == [1, 0, 0, 1]
    letters = SETTINGS.normalise(QUESTIONS[0].passages[0].text)
    others = [codes(letters), codes("别的")]
    wanted = token_features(codes(SETTINGS.normalise(QUESTIONS[0].text)), others)[0]
    np.testing.assert_allclose(passage.features[:, 4:] / 255, wanted, atol=0.002)
    assert passage.features[0, 0] == 255
    assert sets.weights.tolist() == [2.0] * 3


def test_a_question_in_no_store_is_encoded_the_same(tmp_path: Path) -> None:
    sets = encoded(built(tmp_path / "s"))
    alone = encode_one(QUESTIONS[0], SETTINGS, Vocabulary("白云山382米吉"), ["白云山", "382", "米"])
    for a, b in zip(alone.passages, sets.question(0).passages, strict=True):
        np.testing.assert_array_equal(a.chars, b.chars)
        np.testing.assert_array_equal(a.words, b.words)
        np.testing.assert_array_equal(a.features, b.features)


def test_words_of_vectors_are_known_in_their_levelled_form() -> None:
    assert ids_of(["Ａ", "，", ",", "b"], Normaliser()) == {
        "Ａ": 1, "a": 1, "，": 2, ",": 3, "b": 4
    }  # fmt: skip


def test_counts_are_those_of_all_texts(tmp_path: Path) -> None:
    opened = built(tmp_path / "s")
    found, times = opened.code_counts()
    everything = "".join(q.text + "".join(p.text for p in q.passages) for q in QUESTIONS)
    wanted, counts = np.unique(codes(everything), return_counts=True)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(times, counts)
    assert opened.word_counts()["海拔"] == 3


def test_nothing_unfinished_stays_when_reading_fails(tmp_path: Path) -> None:
    def broken() -> Iterator[Question]:
        yield QUESTIONS[0]
        raise UserError("line 7")

    with pytest.raises(UserError, match="line 7"):
        build(tmp_path / "s", broken, SETTINGS, dict)
    assert [p.name for p in tmp_path.iterdir()] == ["s.lock"]


def test_a_store_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    built(tmp_path / "s")
    build(tmp_path / "s", lambda: pytest.fail("read again"), SETTINGS, dict)


def test_what_a_killed_process_left_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "codes").write_bytes(b"half")
    assert len(built(tmp_path / "s")) == 3
    assert not (tmp_path / "s.partial").exists()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Writer, "add", full)
    with pytest.raises(UserError, match=r"No space left.*KEXUE_CACHE_DIR"):
        built(tmp_path / "s")
    assert not (tmp_path / "s").exists()


MEMORY = """
import resource, sys
from pathlib import Path
from tests.tasks.dgcnn.test_store import many, SETTINGS
from kexue_cli.tasks.dgcnn.store import Store, build
folder = Path(sys.argv[1])
list(many(20)), build(folder / "warm", lambda: many(20), SETTINGS, dict)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
build(folder / "s", lambda: many(int(sys.argv[2])), SETTINGS, dict)
opened = Store(folder / "s")
for i in range(len(opened)):
    opened.raw(i)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, opened.facts["characters"])
"""


def many(n: int) -> Iterator[Question]:
    for i in range(n):
        passages = [Passage(str(k), f"第{i}题第{k}段" + "白云山坐落在广州" * 12) for k in range(20)]
        yield Question(str(i), "白云山在哪里？", tuple(passages))


def test_memory_does_not_grow_with_the_number_of_questions(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path), "400"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    grown_kilobytes, characters = map(int, result.stdout.split())
    on_disk = sum(path.stat().st_size for path in (tmp_path / "s").iterdir())
    assert characters > 800_000
    assert grown_kilobytes * 1024 < on_disk / 4
