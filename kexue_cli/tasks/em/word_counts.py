"""Sparse word counts: LDA-C text, scipy .npz, Matrix Market .mtx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.em.table_files import FAILURES

MOST_WORDS = 10_000_000  # every topic has a number for each, used or not


def read_counts(path: Path) -> Any:
    """A scipy CSR matrix (documents, words) of float64 counts.

    Raises:
        UserError: no such file or format, a damaged line, or a count that is negative or broken.
    """
    if not path.is_file():
        raise UserError(f"data.path={path}: no such file; set data.path or KEXUE_DATA_DIR")
    sparse = require("scipy.sparse", extra="em")
    match path.suffix:
        case ".dat" | ".ldac":
            counts = _read_ldac(path)
        case ".npz":
            counts = _read_with(_load_sparse, path)
        case ".mtx":
            counts = _read_with(require("scipy.io", extra="em").mmread, path)
        case _:
            raise UserError(f"{path}: expected LDA-C (.dat, .ldac), scipy .npz, or .mtx")
    check_words(counts.shape[1], path)
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    whole = np.isfinite(counts.data) & (counts.data == np.round(counts.data))
    wrong = np.flatnonzero(~whole | (counts.data < 0))
    if len(wrong):
        document = int(np.searchsorted(counts.indptr, wrong[0], side="right")) - 1
        raise UserError(
            f"{path}: counts must be whole and not negative; document {document} (from 0) has "
            f"{counts.data[wrong[0]]} of word {counts.indices[wrong[0]]} ({len(wrong)} such counts)"
        )
    return counts


def check_words(number: int, path: Path) -> None:
    """Raise UserError for more words than fit into memory once for each topic."""
    if number > MOST_WORDS:
        raise UserError(
            f"{path}: word {number - 1} is the highest, expected numbers from 0 to "
            f"{MOST_WORDS - 1}; number the words that occur in turn"
        )


def _load_sparse(path: Path) -> Any:
    with path.open("rb") as file:
        return require("scipy.sparse", extra="em").load_npz(file)


def _read_with(reader: Any, path: Path) -> Any:
    try:
        return reader(path)
    except FAILURES as error:
        raise UserError(f"{path}: not a readable {path.suffix} matrix ({error})") from error


def _read_ldac(path: Path) -> Any:
    """Lines `number-of-words word:count word:count ...`, words counted from 0."""
    sparse = require("scipy.sparse", extra="em")
    words: list[int] = []
    counts: list[float] = []
    ends = [0]
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        head, *pairs = line.split()
        try:
            split = [pair.split(":") for pair in pairs]
            words.extend(int(word) for word, _ in split)
            counts.extend(float(count) for _, count in split)
            promised = int(head)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: expected `M word:count word:count …`, found {line[:60]!r}"
            ) from error
        if promised != len(pairs) or any(int(word) < 0 for word, _ in split):
            raise UserError(f"{path}, line {number}: promises {promised} words, found {len(pairs)}")
        ends.append(len(words))
    columns = max(words, default=-1) + 1
    check_words(columns, path)
    return sparse.csr_matrix((counts, words, ends), shape=(len(ends) - 1, columns))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: expected text in LDA-C's format ({error})") from error


def read_vocabulary(path: str | None, columns: int) -> list[str]:
    """One word a line, at least `columns` of them; without a path the words' numbers."""
    if path is None:
        return [f"word_{number}" for number in range(columns)]
    file = Path(path)
    if not file.is_file():
        raise UserError(f"data.vocabulary={path}: no such file")
    words = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if len(words) < columns:
        raise UserError(f"{path}: {len(words)} words, but the documents use {columns}")
    return words[:columns]
