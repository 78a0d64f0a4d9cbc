"""Encoded questions on disk: written in one pass, read row by row, memory the same for any number.

Nothing in it depends on a vocabulary, so that one cache serves every model. It is read with `pread`
instead of a mapping: an epoch's random order would map the whole of it into the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.run.files import write_json
from kexue_cli.tasks.dgcnn.encoding import (
    N_FEATURES,
    RawQuestion,
    TextSettings,
    WordIndex,
    encode,
)
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.vocabulary import N_CODE_POINTS

FORMAT = 4  # counted up when the layout or what is encoded changes
COLUMNS: dict[str, tuple[str, int]] = {
    "codes": ("<u4", 1),
    "words": ("<i4", 1),
    "begins": ("u1", 1),
    "tags": ("u1", 1),
    "features": ("u1", N_FEATURES),
    "spans": ("<i4", 3),
}
PER_CHARACTER = ("codes", "words", "begins", "tags", "features")
STARTS = ("row_characters", "row_spans", "question_rows", "records_start")
CACHE_ADVICE = "Make room, or set KEXUE_CACHE_DIR to a folder on a larger disk."


class Column:
    """Numbers in a file, `width` to a row, read without keeping any."""

    def __init__(self, path: Path, dtype: str, width: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self.dtype, self.width = np.dtype(dtype), width

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop: (stop - start, width), or flat for a width of 1."""
        size = self.dtype.itemsize * self.width
        content = os.pread(self._descriptor, (stop - start) * size, start * size)
        flat = np.frombuffer(content, self.dtype)
        return flat if self.width == 1 else flat.reshape(-1, self.width)


class Store:
    """Encoded questions of one file.

    Rows are texts: each question's own, then its passages'. Everything is read-only.

    Attributes:
        words: the words that the `words` column numbers.
        facts: what the reader of the file noted, with `characters` and `rows`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.words: list[str] = json.loads((folder / "words.json").read_text())
        self._columns = {n: Column(folder / n, *form) for n, form in COLUMNS.items()}
        self._records = Column(folder / "records", "u1", 1)
        # Where each row's characters and spans, each question's rows and record begin.
        self._starts = {n: np.load(folder / f"{n}.npy") for n in STARTS}
        self.first_row = self._starts["question_rows"]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.first_row) - 1

    def raw(self, i: int, only: int | None = None) -> RawQuestion:
        """Question `i` with all its passages, or with passage number `only`."""
        first, last = int(self.first_row[i]), int(self.first_row[i + 1])
        if only is None:
            return self._raw_rows([(first, last)])
        return self._raw_rows([(first, first + 1), (first + 1 + only, first + 2 + only)])

    def _raw_rows(self, runs: list[tuple[int, int]]) -> RawQuestion:
        characters = self._starts["row_characters"]
        columns = {
            name: np.concatenate(
                [self._columns[name].rows(int(characters[a]), int(characters[b])) for a, b in runs]
            )
            for name in PER_CHARACTER
        }
        starts = self._starts["row_spans"]
        spans: list[NDArray[np.int32]] = []
        for a, b in runs:
            of_run = self._columns["spans"].rows(int(starts[a]), int(starts[b]))
            spans += np.split(of_run, starts[a + 1 : b] - starts[a])
        lengths = np.concatenate([np.diff(characters[a : b + 1]) for a, b in runs])
        return RawQuestion(lengths=lengths, spans=spans, **columns)

    def record(self, i: int) -> Question:
        """The question as it was read."""
        starts = self._starts["records_start"]
        content = self._records.rows(int(starts[i]), int(starts[i + 1])).tobytes()
        kept = json.loads(content.decode("utf-8", "surrogatepass"))
        first, last = int(self.first_row[i]), int(self.first_row[i + 1])
        texts = [self.text(row) for row in range(first, last)]
        passages = tuple(
            Passage(id, text, answer, start)
            for (id, answer, start), text in zip(kept["passages"], texts[1:], strict=True)
        )
        return Question(
            kept["id"], texts[0], passages, tuple(kept["answers"]), source=kept["source"]
        )

    def text(self, row: int) -> str:
        """The text of a row as written."""
        starts = self._starts["row_characters"]
        codes = self._columns["codes"].rows(int(starts[row]), int(starts[row + 1]))
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def n_passages(self) -> NDArray[np.int64]:
        """Number of passages of each question, (questions,)."""
        return np.diff(self.first_row) - 1

    def code_counts(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Code points as written that occur, and how often."""
        counts = np.load(self.folder / "code_counts.npy")
        return counts[0].astype(np.uint32), counts[1]

    def word_counts(self) -> Counter[str]:
        """How often each word occurs."""
        counts = np.load(self.folder / "word_counts.npy")
        return Counter(dict(zip(self.words, counts.tolist(), strict=True)))


def build(
    folder: Path,
    questions: Callable[[], Iterable[Question]],
    settings: TextSettings,
    facts: Callable[[], dict[str, Any]],
) -> None:
    """Encode what `questions` gives into `folder`, unless it is there already.

    `facts` is asked once all questions are read. Several processes may ask for the same folder: one
    of them builds, the others wait. Whatever happens, no unfinished folder stays.

    Raises:
        UserError: what `questions` raises, or no room on the disk.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder.with_suffix(".lock")):
        if (folder / "meta.json").is_file():
            return
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            with Writer(partial) as writer:
                for question in questions():
                    writer.add(question, settings)
            writer.finish(facts())
            partial.replace(folder)
        except OSError as error:
            raise UserError(f"{partial}: cannot be written: {error}. {CACHE_ADVICE}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a lock between processes."""
    with lock.open("w") as file:  # stays: a lock file that goes could be held twice
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Writer:
    """Appends questions to the files of a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = WordIndex()
        self._starts = {name: array("q", [0]) for name in STARTS}
        self._code_counts = np.zeros(N_CODE_POINTS, np.int64)
        self._word_counts = np.zeros(0, np.int64)

    def __enter__(self) -> Writer:
        with ExitStack() as opened:
            self._files = {
                name: opened.enter_context((self.folder / name).open("wb"))
                for name in (*COLUMNS, "records")
            }
            self._close = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def add(self, question: Question, settings: TextSettings) -> None:
        """Append one question."""
        raw = encode(question, settings, self.index)
        for name in PER_CHARACTER:
            self._files[name].write(getattr(raw, name).astype(COLUMNS[name][0]).tobytes())
        for length, spans in zip(raw.lengths, raw.spans, strict=True):
            self._files["spans"].write(spans.astype("<i4").tobytes())
            self._advance("row_characters", int(length))
            self._advance("row_spans", len(spans))
        self._advance("question_rows", len(raw.lengths))
        record = record_bytes(question)
        self._files["records"].write(record)
        self._advance("records_start", len(record))
        self._count(raw)

    def _advance(self, name: str, by: int) -> None:
        self._starts[name].append(self._starts[name][-1] + by)

    def _count(self, raw: RawQuestion) -> None:
        found, times = np.unique(raw.codes, return_counts=True)
        self._code_counts[found] += times
        if len(self.index) > len(self._word_counts):
            room = np.zeros(2 * len(self.index) - len(self._word_counts), np.int64)
            self._word_counts = np.concatenate([self._word_counts, room])
        found, times = np.unique(raw.words[raw.begins > 0], return_counts=True)
        self._word_counts[found] += times

    def finish(self, facts: dict[str, Any]) -> None:
        """Write what is only known at the end; `meta.json` last."""
        for name, starts in self._starts.items():
            np.save(self.folder / f"{name}.npy", np.frombuffer(starts, np.int64))
        found = np.flatnonzero(self._code_counts)
        np.save(self.folder / "code_counts.npy", np.stack([found, self._code_counts[found]]))
        np.save(self.folder / "word_counts.npy", self._word_counts[: len(self.index)])
        (self.folder / "words.json").write_text(json.dumps(list(self.index)))
        rows, characters = (self._starts[n][-1] for n in ("question_rows", "row_characters"))
        write_json(self.folder / "meta.json", {**facts, "rows": rows, "characters": characters})


def record_bytes(question: Question) -> bytes:
    """What of a question is neither text nor number, as JSON."""
    kept = {
        "id": question.id,
        "answers": question.answers,
        "source": question.source,
        "passages": [(p.id, p.answer, p.answer_start) for p in question.passages],
    }
    return json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass")
