"""What is odd about the questions of a file: counted, listed, and mended, dropped or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.normalise import Normaliser, occurrences
from kexue_cli.tasks.dgcnn.records import Passage, Question

MISSING_ANSWER, WRONG_OFFSET = "missing_answer", "wrong_offset"
EMPTY_PASSAGE, EMPTY_QUESTION, NO_PASSAGE = "empty_passage", "empty_question", "no_passage"
ASKED_AGAIN, ANSWER_NOWHERE = "asked_again", "answer_nowhere"
IN_WORDS = {
    MISSING_ANSWER: "answers do not occur in their passage",
    ANSWER_NOWHERE: "questions have an answer that none of their passages is known to hold",
    WRONG_OFFSET: "answers were not where the file says and are found again",
    EMPTY_PASSAGE: "passages are empty and left out",
    EMPTY_QUESTION: "questions are empty: not learned from, answered with nothing",
    NO_PASSAGE: "questions have no passage: not learned from, answered with nothing",
    ASKED_AGAIN: "questions are asked in validation, test or data.exclude, too: not learned from",
}
MOST_LISTED = 500  # of each kind


@dataclass
class Problems:
    """Counts of each kind and the first ones: kind, file, question, passage, what was found."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, kind: str, path: Path, question: str, passage: str, found: str) -> None:
        """Note one."""
        self.counts[kind] += 1
        if self.counts[kind] <= MOST_LISTED:
            self.listed.append((kind, str(path), question, passage, found))

    def merge(self, other: Problems) -> None:
        """Add those of another file."""
        self.counts.update(other.counts)
        self.listed += other.listed

    def sentences(self) -> Iterator[str]:
        """One line for each kind, with an example."""
        for kind, count in self.counts.items():
            _, path, question, passage, found = next(p for p in self.listed if p[0] == kind)
            place = f"question {question}" + (f", passage {passage}" if passage else "")
            yield f"{count} {IN_WORDS[kind]} ({path}, {place}{': ' if found else ''}{found})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"counts": dict(self.counts), "listed": self.listed}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Problems:
        """What `as_dict` gave."""
        return cls(Counter(saved["counts"]), [tuple(row) for row in saved["listed"]])


@dataclass(frozen=True)
class Rules:
    """What is done about problems.

    Attributes:
        missing_answer: keep (as a passage without labels), drop the passage, or stop.
        empty: drop or stop, for empty passages and questions.
        normalise: answers are compared after it.
    """

    missing_answer: str = "keep"
    empty: str = "drop"
    normalise: Normaliser = field(default_factory=Normaliser)

    def check(self, question: Question, path: Path, problems: Problems) -> Question:
        """The question without what is dropped; an empty one loses all its passages.

        Raises:
            UserError: for what the rules stop at.
        """
        passages = []
        for passage in question.passages:
            if not passage.text.strip():
                self._empty(EMPTY_PASSAGE, path, question, passage.id, problems)
            elif (kept := self._answered(passage, path, question, problems)) is not None:
                passages.append(kept)
        if not question.text.strip():
            self._empty(EMPTY_QUESTION, path, question, "", problems)
            passages = []
        elif not passages:
            self._empty(NO_PASSAGE, path, question, "", problems)
        elif question.answers and not any(passage.answer for passage in question.passages):
            problems.add(ANSWER_NOWHERE, path, question.id, "", question.answers[0])
        return replace(question, passages=tuple(passages))

    def _empty(
        self, kind: str, path: Path, question: Question, passage: str, problems: Problems
    ) -> None:
        if self.empty == "stop":
            place = f"question {question.id}" + (f", passage {passage}" if passage else "")
            raise UserError(
                f"{path}, {place}: {kind.replace('_', ' ')}, expected text; "
                "mend the file, or leave such ones out with data.empty=drop"
            )
        problems.add(kind, path, question.id, passage, "")

    def _answered(
        self, passage: Passage, path: Path, question: Question, problems: Problems
    ) -> Passage | None:
        """The passage with its answer where it really is, None if it is dropped."""
        if not passage.answer.strip():
            return replace(passage, answer="", answer_start=None)
        found = locate(passage, self.normalise)
        if found is None:
            shown = passage.answer if len(passage.answer) <= 40 else passage.answer[:39] + "…"
            if self.missing_answer == "stop":
                raise UserError(
                    f"{path}, question {question.id}, passage {passage.id}: the answer {shown!r} "
                    "does not occur in the passage; mend the file, or choose "
                    "data.missing_answer=keep or drop"
                )
            problems.add(MISSING_ANSWER, path, question.id, passage.id, shown)
            kept = replace(passage, answer="", answer_start=None)
            return kept if self.missing_answer == "keep" else None
        if passage.answer_start is not None and found.answer_start != passage.answer_start:
            place = "every occurrence" if found.answer_start is None else found.answer_start
            moved = f"{passage.answer_start} → {place}"
            problems.add(WRONG_OFFSET, path, question.id, passage.id, moved)
        return found


def locate(passage: Passage, normalise: Normaliser) -> Passage | None:
    """The passage with answer and offset as they occur in its text, None if they do not.

    Of several occurrences the one nearest to the given offset is taken; an offset below 0 says
    nothing (DuReader-robust has -1 everywhere).
    """
    text = normalise(passage.text)
    for answer in (passage.answer, passage.answer.strip()):
        starts = occurrences(text, normalise(answer))
        if starts:
            given = passage.answer_start
            known = given is not None and given >= 0
            start = min(starts, key=lambda start: abs(start - (given or 0))) if known else None
            return replace(passage, answer=answer, answer_start=start)
    return None
