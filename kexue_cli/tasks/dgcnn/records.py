"""What every reader of files gives and every model takes: questions with their passages."""

from __future__ import annotations

from dataclasses import dataclass

RETRIEVED = "retrieved-"  # begins the ids of passages that are in no file beside their question


@dataclass(frozen=True, slots=True)
class Passage:
    """One text that may hold the answer.

    Attributes:
        id: unique within its question.
        text: as in the file; models see `normalise(text)`, which has the same length.
        answer: the string marked in this passage; "" where it holds none.
        answer_start: offset of the annotated occurrence in characters; None where the file gives
            none: then every occurrence counts.
    """

    id: str
    text: str
    answer: str = ""
    answer_start: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its passages.

    Attributes:
        id: unique within its set.
        text: the question.
        passages: at least one.
        answers: all accepted answers; empty if none is known or there is none.
        source: name of the file or set it comes from.
    """

    id: str
    text: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...] = ()
    source: str = ""
