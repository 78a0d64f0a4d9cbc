"""The loops of the hand features, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from kexue_cli.extras import require

numba = require("numba", extra="dgcnn")


@numba.njit(cache=True, nogil=True)
def edit_distance(first: Any, second: Any, row: Any) -> int:
    """Levenshtein; `row` is room for len(second) + 1 numbers."""
    for j in range(len(second) + 1):
        row[j] = j
    for i in range(len(first)):
        diagonal, row[0] = row[0], i + 1
        for j in range(len(second)):
            change = diagonal + (first[i] != second[j])
            diagonal = row[j + 1]
            row[j + 1] = min(change, diagonal + 1, row[j] + 1)
    return int(row[len(second)])


@numba.njit(cache=True, nogil=True)
def windows(question: Any, passage: Any, in_question: Any, n_distinct: int, out: Any) -> None:
    """Jaccard and edit distance of the window around each token."""
    n, length = len(question), len(passage)
    row = np.empty(n + 1, np.int32)
    times = np.zeros(len(in_question), np.int32)  # each token's count in the window
    distinct = common = 0
    for right in range(-(n // 2), length + n - n // 2 - 1):
        # The window that ends at `right` belongs to the token at `middle`.
        left, middle = right - n + 1, right - (n - n // 2 - 1)
        if 0 <= right < length:
            token = passage[right]
            times[token] += 1
            if times[token] == 1:
                distinct += 1
                common += in_question[token]
        if 0 < left <= length:
            token = passage[left - 1]
            times[token] -= 1
            if times[token] == 0:
                distinct -= 1
                common -= in_question[token]
        if 0 <= middle < length:
            window = passage[max(left, 0) : min(right + 1, length)]
            out[middle, 2] = common / (n_distinct + distinct - common)
            out[middle, 3] = edit_distance(window, question, row) / n


@numba.njit(cache=True, nogil=True)
def all_features(question: Any, tokens: Any, bounds: Any, out: Any) -> None:
    """Fill `out` for the passages tokens[bounds[i]:bounds[i + 1]]."""
    n_kinds, n_passages = tokens.max() + 1, len(bounds) - 1
    in_question = np.zeros(n_kinds, np.int32)
    in_passages = np.zeros(n_kinds, np.int32)  # the number of passages with the token
    last_seen = np.full(n_kinds, -1, np.int32)
    in_question[question] = 1
    for p in range(n_passages):
        for token in tokens[bounds[p] : bounds[p + 1]]:
            in_passages[token] += last_seen[token] != p
            last_seen[token] = p
    for p in range(n_passages):
        passage = tokens[bounds[p] : bounds[p + 1]]
        part = out[bounds[p] : bounds[p + 1]]
        for i in range(len(passage)):
            part[i, 0] = in_question[passage[i]]
            part[i, 1] = (in_passages[passage[i]] - 1) / n_passages
        windows(question, passage, in_question, in_question.sum(), part)
