"""The n-grams of every order that were seen often enough, from records that come in key order.

The records themselves, of which most are seen once, need not be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import Keys, frequent_prefixes
from kexue_cli.tasks.minent.ngram_runs import Run
from kexue_cli.tasks.minent.symbols import SymbolTable

Counted = tuple[Keys, NDArray[np.uint64]]  # distinct n-grams of one order, ascending, and counts
CLOSING = Run(np.zeros(1, np.uint64), np.zeros(1, np.uint64))  # no n-gram: ends the one before
SLICE = 1 << 17  # records at a time


@dataclass(frozen=True)
class FrequentNgrams:
    """N-grams of the orders 1, 2, …, up to `order`.

    grams   for each order, those that were seen often enough
    totals  for each order, how many n-grams the text has in all
    """

    order: int
    table: SymbolTable
    grams: list[Counted]
    totals: list[int]


def frequent_ngrams(
    parts: Iterable[Run], table: SymbolTable, order: int, at_least: int
) -> FrequentNgrams:
    """Those seen `at_least` times, from all records of windows of `order` symbols, part by part.

    A window cut short by the end of its piece counts for the orders that it is long enough for.
    """
    before, seen = np.zeros(1, np.uint64), np.zeros((3, order + 1), np.int64)
    room, filled = np.empty((2, order, SLICE + 1), np.uint64), np.empty(order, np.int64)
    kept: list[list[Counted]] = [[] for _ in range(order)]
    for part in chain(_slices(parts), [CLOSING]):
        frequent_prefixes(
            part.keys, part.counts, order, table.bits, at_least, before, seen, *room, filled
        )
        for m, n in enumerate(filled.tolist()):
            kept[m].append((room[0, m, :n].copy(), room[1, m, :n].copy()))
    grams = [_joined(pieces) for pieces in kept]
    return FrequentNgrams(order, table, grams, seen[2, 1:].tolist())


def _joined(pieces: list[Counted]) -> Counted:
    keys, numbers = zip(*pieces, strict=True)
    return np.concatenate(keys), np.concatenate(numbers)


def _slices(parts: Iterable[Run]) -> Iterator[Run]:
    for part in parts:
        keys, counts = np.asarray(part.keys), np.asarray(part.counts)
        for start in range(0, len(keys), SLICE):
            yield Run(keys[start : start + SLICE], counts[start : start + SLICE])
