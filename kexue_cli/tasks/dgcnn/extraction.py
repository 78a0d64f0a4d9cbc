"""Candidate answers of one passage from its scores of start and end (kexue.fm/archives/6906)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def candidates(
    text: str,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    threshold: float = 0.1,
    max_length: int = 12,
) -> dict[str, float]:
    """Strings of at most `max_length` characters with start score times end score, each the best
    over its occurrences.

    Both scores must be strictly above the threshold, compared in float32 as the original does.

    Args:
        text: the passage; scores beyond its end are padding and not read.
        start: (length or more,), of each character as the first of the answer.
        end: the same, as the last.
    """
    start, end = (np.asarray(scores, np.float32)[: len(text)] for scores in (start, end))
    limit = np.float32(threshold)
    ends = np.flatnonzero(end > limit)
    found: dict[str, float] = {}
    for i in np.flatnonzero(start > limit):
        first, last = np.searchsorted(ends, (i, i + max_length))
        for j in ends[first:last]:
            answer = text[i : j + 1]
            found[answer] = max(found.get(answer, 0.0), float(start[i] * end[j]))
    return found
