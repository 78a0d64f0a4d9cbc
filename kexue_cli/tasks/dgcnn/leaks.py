"""Questions that would be learned although they are asked in validation or test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import ASKED_AGAIN, Problems, Rules
from kexue_cli.tasks.dgcnn.question_files import read_questions
from kexue_cli.tasks.dgcnn.store import Store

Rows = NDArray[np.int64]


class Asked:
    """Questions that are asked where nothing is learned.

    Args:
        questions: their texts.
        normalise: texts are compared after it, by their letters and digits alone.
        overlap: questions that have this share of their character bigrams in common (those of both
            among those of either) count as the same; 1: equal ones only.
    """

    def __init__(self, questions: Iterable[str], normalise: Normaliser, overlap: float) -> None:
        self.normalise, self.overlap = normalise, overlap
        self.texts = {self._key(question) for question in questions} - {""}
        self.sizes: list[int] = []
        self.holders: dict[str, list[int]] = {}  # of a bigram, numbers of questions
        for number, text in enumerate(sorted(self.texts) if overlap < 1 else ()):
            self.sizes.append(len(bigrams(text)))
            for bigram in bigrams(text):
                self.holders.setdefault(bigram, []).append(number)

    def __contains__(self, question: str) -> bool:
        """Whether the question is one of them, or nearly so."""
        text = self._key(question)
        if text in self.texts:
            return True
        own = bigrams(text)
        common = Counter(number for bigram in own for number in self.holders.get(bigram, ()))
        return any(
            shared >= self.overlap * (len(own) + self.sizes[number] - shared)
            for number, shared in common.items()
        )

    def _key(self, question: str) -> str:
        return "".join(filter(str.isalnum, self.normalise(question)))


def bigrams(text: str) -> set[str]:
    """Pairs of neighbouring characters."""
    return {text[i : i + 2] for i in range(len(text) - 1)}


def asked_in(
    parts: Iterable[tuple[Store, Rows]], files: Sequence[Path], rules: Rules, overlap: float
) -> Asked:
    """The questions of some rows of stores, and of whole files."""
    held = (store.text(int(store.first_row[i])) for store, rows in parts for i in rows)
    read = (question.text for path in files for question in read_questions(path, rules, Problems()))
    return Asked((text for source in (held, read) for text in source), rules.normalise, overlap)


def not_asked(store: Store, rows: Rows, asked: Asked, problems: Problems) -> Rows:
    """The rows whose question is not one of those asked; the others are noted as problems."""
    kept = []
    for i in rows:
        text = store.text(int(store.first_row[i]))
        if text in asked:
            record = store.record(int(i))
            problems.add(ASKED_AGAIN, Path(record.source), record.id, "", text)
        else:
            kept.append(i)
    return np.array(kept, np.int64)
