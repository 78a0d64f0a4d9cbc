"""Candidate answers of one passage from its scores of start and end (kexue.fm/archives/6906)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Punctuation and blanks that are no part of an answer they stand beside; % and # may be.
EDGES = " \t\r\n\u3000,.;:?!'\"()[]{}<>-_~…·—～，。；：？！、“”‘’（）《》〈〉【】「」『』"


def trimmed(answer: str) -> str:
    """Without punctuation at its ends, so that 《红楼梦》 and 红楼梦 are voted for as one."""
    return answer.strip(EDGES)


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
    widths = np.ones(len(text))
    found: dict[str, float] = {}
    for i, j, score in spans(start[: len(text)], end[: len(text)], widths, threshold, max_length):
        answer = text[i : j + 1]
        found[answer] = max(found.get(answer, 0.0), score)
    return found


def spans(
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    widths: NDArray[np.floating],
    threshold: float,
    max_width: float,
) -> Iterator[tuple[int, int, float]]:
    """First token, last token and score of every span above the threshold.

    Args:
        start: (n,) scores; end: the same.
        widths: (n,) of the tokens: 1 for a character.
        max_width: of a span, the sum over its tokens.
    """
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    limit = np.float32(threshold)
    firsts, lasts = np.flatnonzero(start > limit), np.flatnonzero(end > limit)
    edge = np.concatenate([[0.0], np.cumsum(widths)])
    # of the sorted lasts, those from `low` up to `high` end a span that begins at the first
    low = np.searchsorted(lasts, firsts)
    furthest = np.searchsorted(edge, edge[firsts] + max_width, side="right") - 2
    high = np.searchsorted(lasts, furthest, side="right")
    counts = np.maximum(high - low, 0)
    i = np.repeat(firsts, counts)
    place = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    j = lasts[np.repeat(low, counts) + place]
    yield from zip(i.tolist(), j.tolist(), (start[i] * end[j]).tolist(), strict=True)
