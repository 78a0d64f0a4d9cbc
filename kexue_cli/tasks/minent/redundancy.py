"""Removing redundant words (kexue.fm 5476): from the longest to the shortest, a word stays only if
its own probability beats that of the best way to write it with the others by enough.

The rule of nlp-zero: ln p(w) - sum of ln p(parts) >= 1 nat for each joint of w; the parts come from
a unigram Viterbi search over the other words; a removed word's count goes to its parts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import numba
from kexue_cli.tasks.minent.piece_table import MAX_PIECE, Pieces, add, extend_hash, find, with_room

LONGEST = MAX_PIECE + 1
UNKNOWN = -100.0  # log probability of a character that is no word, as nlp-zero has it


@numba.njit(nogil=True, cache=True)
def best_parts(
    table: Pieces,
    begin: int,
    end: int,
    log_total: float,
    prefixes: NDArray[np.bool_],
    parts: NDArray[np.int64],
) -> int:
    """Viterbi over pool[begin:end]; writes the ends of the parts, backwards; returns how many.

    Only entries with a count above 0 are words; `prefixes` comes from mark_prefixes. Of equal
    paths the one found first is kept.
    """
    length = end - begin
    score = np.full(length + 1, -np.inf)
    came_from = np.zeros(length + 1, np.int64)
    score[0] = 1.0  # as nlp-zero starts; it only matters to the last bit
    for i in range(length):
        value = np.uint64(0)
        for j in range(i + 1, length + 1):
            value = extend_hash(value, table.pool[begin + j - 1])
            if not prefixes[value & np.uint64(prefixes.size - 1)]:
                break
            entry = find(table, table.pool, begin + i, begin + j, value)
            if entry >= 0 and table.counts[entry] > 0:
                path = score[i] + (math.log(table.counts[entry]) - log_total)
                if path > score[j]:
                    score[j], came_from[j] = path, i
        if score[i + 1] == -np.inf:
            score[i + 1], came_from[i + 1] = score[i] + UNKNOWN, i
    n, place = 0, length
    while place > 0:
        parts[n] = place
        n += 1
        place = came_from[place]
    return n


@numba.njit(nogil=True, cache=True)
def mark_prefixes(table: Pieces) -> NDArray[np.bool_]:
    """A filter by hash: false where no entry begins with a string of this hash."""
    size = 1024
    while size < 4 * table.filled[1]:
        size *= 2
    marks = np.zeros(size, np.bool_)
    begin = 0
    for entry in range(table.filled[0]):
        value = np.uint64(0)
        for i in range(begin, table.ends[entry]):
            value = extend_hash(value, table.pool[i])
            marks[value & np.uint64(size - 1)] = True
        begin = table.ends[entry]
    return marks


@numba.njit(nogil=True, cache=True)
def remove_redundant(
    table: Pieces, order: NDArray[np.int64], nats_per_joint: float, keep_at_least: int
) -> int:
    """Visit entries in `order`; drop those that are redundant or rarer than `keep_at_least`.

    A dropped entry's count goes to its parts, single characters included, which must be entries
    (perhaps of count 0) already. Returns how many were dropped.
    """
    total = np.int64(0)
    for entry in range(table.filled[0]):
        total += table.counts[entry]
    log_total = math.log(total) if total else 0.0
    parts = np.empty(LONGEST, np.int64)
    prefixes = mark_prefixes(table)
    removed = 0
    for entry in order:
        begin = table.ends[entry - 1] if entry else 0
        end = table.ends[entry]
        count = table.counts[entry]
        if end - begin == 1 or count == 0:
            continue
        table.counts[entry] = 0
        n = best_parts(table, begin, end, log_total, prefixes, parts)
        gain = math.log(count) - log_total
        for k in range(n - 1, -1, -1):
            gain -= _log_count(table, begin, parts, k, n) - log_total
        if gain >= nats_per_joint * (end - begin - 1) and count >= keep_at_least:
            table.counts[entry] = count
            continue
        removed += 1
        total -= count
        for k in range(n - 1, -1, -1):
            part = _part(table, begin, parts, k, n)
            table.counts[part] += count
            total += count
        log_total = math.log(total)
    return removed


@numba.njit(nogil=True, cache=True)
def _part(table: Pieces, begin: int, parts: NDArray[np.int64], k: int, n: int) -> int:
    """Entry of part k (numbered backwards) of a piece that begins at `begin` in the pool."""
    first = begin + (parts[k + 1] if k + 1 < n else 0)
    last = begin + parts[k]
    value = np.uint64(0)
    for i in range(first, last):
        value = extend_hash(value, table.pool[i])
    return find(table, table.pool, first, last, value)


@numba.njit(nogil=True, cache=True)
def _log_count(table: Pieces, begin: int, parts: NDArray[np.int64], k: int, n: int) -> float:
    count = table.counts[_part(table, begin, parts, k, n)]
    return math.log(count) if count > 0 else UNKNOWN


def with_single_symbols(table: Pieces, symbols: NDArray[np.uint32]) -> Pieces:
    """The table with an entry for each of the given symbols, of count 0 where it is new."""
    table = with_room(table, len(symbols))
    for i in range(len(symbols)):
        add(table, symbols, i, i + 1, 0)
    return table
