"""All repeated substrings of a text as numbered word candidates, and sums over segmentations.

Everything is exact and linear in characters x max_length; the loops are compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require

numba: Any = require("numba", extra="minent")

HASH_FACTOR = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd


@dataclass(frozen=True)
class Lattice:
    """Candidates at every position of a text.

    symbols  (characters,) int32, numbered by code point order
    starts   (pieces + 1,) int64
    ids      (characters, max_length) int32: candidate of length l + 1 that begins here, or -1
    lengths  (candidates,) int32 in characters
    counts   (candidates,) int32 occurrences, overlapping ones too
    first    (candidates,) int64 position of one occurrence
    alphabet (symbols,) uint32 code points
    """

    symbols: NDArray[np.int32]
    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    counts: NDArray[np.int32]
    first: NDArray[np.int64]
    alphabet: NDArray[np.uint32]

    def spell(self, candidate: int) -> str:
        """The candidate as text."""
        place, length = int(self.first[candidate]), int(self.lengths[candidate])
        return "".join(chr(self.alphabet[s]) for s in self.symbols[place : place + length])

    def words(self, ends: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Candidates used by a segmentation (characters,), in order of the text."""
        last = np.flatnonzero(ends)
        begins = np.concatenate(([0], last[:-1] + 1))
        return self.ids[begins, last - begins]


@numba.njit(cache=True, nogil=True)
def _extend(
    shorter: Any, symbols: Any, room: Any, length: int, keys: Any, values: Any, counts: Any
) -> tuple[Any, int]:
    """Number the substrings of one more symbol whose both shortenings are candidates."""
    mask = keys.size - 1
    found = np.full(symbols.size, -1, np.int32)
    distinct = 0
    for i in range(symbols.size):
        if room[i] < length or shorter[i] < 0 or (length > 1 and shorter[i + 1] < 0):
            continue
        key = np.int64(shorter[i]) << np.int64(32) | np.int64(symbols[i + length - 1])
        slot = key * HASH_FACTOR
        slot = (slot ^ (slot >> np.int64(29))) & mask
        while keys[slot] != -1 and keys[slot] != key:
            slot = (slot + 1) & mask
        if keys[slot] == -1:
            keys[slot] = key
            values[slot] = distinct
            distinct += 1
        found[i] = values[slot]
        counts[found[i]] += 1
    return found, distinct


def build_lattice(
    code_points: NDArray[np.uint32], starts: NDArray[np.int64], max_length: int, min_count: int
) -> Lattice:
    """Candidates: every symbol, and every substring within a piece seen `min_count` times."""
    alphabet, symbols = _numbered(code_points)
    size = len(symbols)
    pieces = np.diff(starts)
    room = (np.repeat(starts[1:], pieces) - np.arange(size)).astype(np.int32)
    ids = np.full((size, max_length), -1, np.int32)
    lengths, counts, first = [], [], []
    keys = np.empty(1 << int(np.ceil(np.log2(2 * size + 16))), np.int64)
    values = np.empty(keys.size, np.int32)
    shorter = np.zeros(size + 1, np.int32)
    total = 0
    for length in range(1, max_length + 1):
        keys.fill(-1)
        number = np.zeros(size, np.int32)
        found, distinct = _extend(shorter, symbols, room, length, keys, values, number)
        keep = number[:distinct] >= (1 if length == 1 else min_count)
        renumber = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
        kept = int(keep.sum())
        if kept == 0:
            ids = ids[:, : length - 1].copy()
            break
        shorter[:size] = np.where(found >= 0, renumber[found], -1)
        shorter[size] = -1
        here = np.flatnonzero(shorter[:size] >= 0)
        ids[here, length - 1] = shorter[here] + total
        place = np.empty(kept, np.int64)
        place[shorter[here[::-1]]] = here[::-1]
        lengths.append(np.full(kept, length, np.int32))
        counts.append(number[:distinct][keep])
        first.append(place)
        total += kept
    return Lattice(
        symbols, starts, ids, np.concatenate(lengths), np.concatenate(counts),
        np.concatenate(first), alphabet,
    )  # fmt: skip


def _numbered(code_points: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """The distinct code points in order, and the text in their numbers."""
    present = np.zeros(int(code_points.max()) + 1, np.bool_)
    present[code_points] = True
    number = (np.cumsum(present) - 1).astype(np.int32)
    return np.flatnonzero(present).astype(np.uint32), number[code_points]


@numba.njit(cache=True, nogil=True, fastmath=True)
def expected_counts(ids: Any, starts: Any, weights: Any, expected: Any) -> float:
    """Forward-backward over all segmentations of every piece.

    weights (candidates,) >= 0, those of single symbols > 0. Adds each candidate's expected number
    of uses to `expected` and returns the log of the summed weight of all segmentations.

    The forward sums are scaled to 1 at each position, so that no piece is too long.
    """
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    inverse = np.empty(longest + 1)  # 1 / scale of each position
    backward = np.empty(longest + 1)
    log_total = 0.0
    for p in range(starts.size - 1):
        begin, size = starts[p], starts[p + 1] - starts[p]
        for j in range(1, size + 1):
            total, scale = 0.0, 1.0
            for length in range(1, min(ids.shape[1], j) + 1):
                candidate = ids[begin + j - length, length - 1]
                if candidate >= 0:
                    total += weights[candidate] * scale
                scale *= inverse[j - length]
            inverse[j] = 1.0 / total
            log_total += np.log(total)
        backward[size] = 1.0
        for i in range(size - 1, -1, -1):
            total, scale = 0.0, 1.0
            for length in range(1, min(ids.shape[1], size - i) + 1):
                scale *= inverse[i + length]
                candidate = ids[begin + i, length - 1]
                if candidate >= 0:
                    share = weights[candidate] * backward[i + length] * scale
                    expected[candidate] += share
                    total += share
            backward[i] = total
    return log_total


@numba.njit(cache=True, nogil=True)
def best_segmentation(ids: Any, starts: Any, scores: Any) -> Any:
    """Viterbi: word ends (characters,) bool of the segmentation with the largest summed score.

    scores (candidates,) are log weights; -inf forbids a candidate. Of equal paths the one with the
    longer last word wins.
    """
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    best = np.empty(longest + 1)
    last = np.empty(longest + 1, np.int32)
    ends = np.zeros(ids.shape[0], np.bool_)
    best[0] = 0.0
    for p in range(starts.size - 1):
        begin, size = starts[p], starts[p + 1] - starts[p]
        for j in range(1, size + 1):
            best[j] = -np.inf
            last[j] = 1
            for length in range(1, min(ids.shape[1], j) + 1):
                candidate = ids[begin + j - length, length - 1]
                if candidate >= 0:
                    score = best[j - length] + scores[candidate]
                    if score >= best[j]:
                        best[j] = score
                        last[j] = length
        j = size
        while j > 0:
            ends[begin + j - 1] = True
            j -= last[j]
    return ends


@numba.njit(cache=True, nogil=True)
def consensus(gains: Any, starts: Any, max_length: int) -> Any:
    """Word ends (characters,) with the largest summed gain: what a cut after a character is worth.

    Cuts are made where the gain is positive; where a word would be longer than `max_length`
    characters, those that gain the most or lose the least. A piece always ends with a word.
    """
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    best = np.zeros(longest + 1)
    last = np.empty(longest + 1, np.int32)
    ends = np.zeros(gains.size, np.bool_)
    for p in range(starts.size - 1):
        begin, size = starts[p], starts[p + 1] - starts[p]
        for j in range(1, size + 1):
            last[j] = 1
            for length in range(2, min(max_length, j) + 1):
                if best[j - length] >= best[j - last[j]]:
                    last[j] = length
            best[j] = best[j - last[j]] + gains[begin + j - 1]
        j = size
        while j > 0:
            ends[begin + j - 1] = True
            j -= last[j]
    return ends
