"""Questions that would be learned although they are asked in validation or test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import ASKED_AGAIN, Problems, Rules
from kexue_cli.tasks.dgcnn.question_files import read_questions
from kexue_cli.tasks.dgcnn.store import Store

Rows = NDArray[np.int64]


def asked_keys(
    parts: Iterable[tuple[Store, Rows]], files: Sequence[Path], rules: Rules
) -> set[str]:
    """Keys of the questions of some rows of stores, and of whole files."""
    texts = (store.text(int(store.first_row[i])) for store, rows in parts for i in rows)
    read = (question.text for path in files for question in read_questions(path, rules, Problems()))
    return {key_of(text, rules.normalise) for source in (texts, read) for text in source} - {""}


def not_asked(
    store: Store, rows: Rows, asked: set[str], normalise: Normaliser, problems: Problems
) -> Rows:
    """The rows whose question is not one of those asked; the others are noted as problems."""
    kept = []
    for i in rows:
        text = store.text(int(store.first_row[i]))
        if key_of(text, normalise) in asked:
            record = store.record(int(i))
            problems.add(ASKED_AGAIN, Path(record.source), record.id, "", text)
        else:
            kept.append(i)
    return np.array(kept, np.int64)


def key_of(question: str, normalise: Normaliser) -> str:
    """The letters and digits of a question: the same for two that differ in nothing else."""
    return "".join(filter(str.isalnum, normalise(question)))
