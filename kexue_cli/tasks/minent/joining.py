"""Pre-cutting text by joining: a word grows while a solid n-gram overlaps its end.

Solid n-grams (those with enough mutual information) are kept as a hash set of n-gram keys, filled
up with zeros to the full order, so that keys of different lengths never meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import Keys, numba
from kexue_cli.tasks.minent.ngrams import Advance, NgramCounts, usable_cores
from kexue_cli.tasks.minent.piece_table import Pieces, count_pieces, merge_pieces, new_table
from kexue_cli.tasks.minent.symbols import Chunks, SymbolTable, blocks

SPREAD = np.uint64(0x9E3779B97F4A7C15)
JOB_SYMBOLS = 1 << 20  # of which one thread counts the words at a time


@numba.njit(nogil=True, cache=True)
def make_set(keys: Keys) -> Keys:
    """An open-addressing hash set of non-zero keys: a power of two of slots, 0 where empty."""
    size = 16
    while size < 2 * keys.size:
        size *= 2
    slots = np.zeros(size, np.uint64)
    mask = np.uint64(size - 1)
    for key in keys:
        slot = ((key * SPREAD) >> np.uint64(32)) & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = key
    return slots


@numba.njit(nogil=True, cache=True, inline="always")
def in_set(slots: Keys, key: np.uint64) -> bool:
    """Whether a key is in the set."""
    mask = np.uint64(slots.size - 1)
    slot = ((key * SPREAD) >> np.uint64(32)) & mask
    while slots[slot] != 0:
        if slots[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


@numba.njit(nogil=True, cache=True)
def word_begins(
    symbols: NDArray[np.uint32],
    owned: int,
    order: int,
    bits: int,
    solid: Keys,
    left: int,
    begins: NDArray[np.bool_],
) -> int:
    """Mark the symbols at which a word begins, (owned,); returns what the next block needs.

    `left` says how many further symbols the last word of the block before takes in.
    """
    shift = np.uint64(bits)
    top = np.uint64((order - 1) * bits)
    reach = np.ones(owned, np.uint8)
    key = np.uint64(0)
    for i in range(symbols.size - 1, -1, -1):
        key = (np.uint64(symbols[i]) << top) | (key >> shift) if symbols[i] else np.uint64(0)
        if i >= owned or symbols[i] == 0:
            continue
        prefix = key
        for m in range(order, 1, -1):
            drop = np.uint64((order - m) * bits)
            prefix = (prefix >> drop) << drop
            last = (prefix >> drop) & ((np.uint64(1) << shift) - np.uint64(1))
            if last and in_set(solid, prefix):
                reach[i] = m
                break
    for i in range(owned):
        if symbols[i] == 0:
            begins[i] = False
            left = 0
            continue
        begins[i] = left == 0
        left = max(left, reach[i]) - 1
    return left


Counted = tuple[Keys, NDArray[np.uint64]]  # distinct n-grams of one order, ascending, and counts


def cohesion(
    orders: list[Counted], m: int, bits: int, totals: list[int], min_count: int
) -> tuple[Keys, NDArray[np.float64]]:
    """m-grams counted at least `min_count` times, and their mutual information, nats.

    It is ln N(w)/T_m - ln N(left)/T_j - ln N(right)/T_(m-j), the smallest over all places j where
    the m-gram can be split. orders[j - 1] are the counted j-grams, totals[j - 1] = T_j. A part that
    was never counted has probability one.
    """
    keys, numbers = orders[m - 1]
    frequent = numbers >= min_count
    keys, numbers = keys[frequent], numbers[frequent]
    smallest = np.full(len(keys), np.inf)
    for j in range(1, m):
        tail = np.uint64((m - j) * bits)
        left = _look_up(orders[j - 1], keys >> tail, totals[j - 1])
        right = _look_up(
            orders[m - j - 1], keys & ((np.uint64(1) << tail) - np.uint64(1)), totals[m - j - 1]
        )
        scale = totals[j - 1] * totals[m - j - 1] / totals[m - 1]  # of integers: rounded once
        smallest = np.minimum(smallest, scale * numbers / (left * right))
    return keys, np.log(smallest)


def _look_up(counted: Counted, wanted: Keys, missing: float) -> NDArray[np.float64]:
    """Counts of n-grams (wanted,), `missing` for those that are not there."""
    keys, numbers = counted
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, numbers[place].astype(np.float64), missing)


def cohesions(
    counts: NgramCounts, min_count: int, shared_total: int | None = None
) -> list[tuple[Keys, NDArray[np.float64]]]:
    """Keys, filled up to the full order, and cohesion in nats, of the n-grams of orders 2, 3, ….

    `shared_total` stands for the total of every order, as the author of the method has it; by
    default each order has its own.
    """
    orders = [counts.of_order(m) for m in range(1, counts.order + 1)]
    totals = [shared_total or int(numbers.sum()) for _, numbers in orders]
    bits = counts.table.bits
    result = []
    for m in range(2, counts.order + 1):
        if not len(orders[m - 1][0]):
            continue
        keys, nats = cohesion(orders, m, bits, totals, min_count)
        result.append((keys << np.uint64((counts.order - m) * bits), nats))
    return result


def solid_ngrams(
    measured: Sequence[tuple[Keys, NDArray[np.float64]]], min_pmi: Sequence[float]
) -> Keys:
    """Keys of the measured n-grams of order m whose cohesion reaches min_pmi[m - 1], nats."""
    kept = [keys[nats >= least] for (keys, nats), least in zip(measured, min_pmi[1:], strict=False)]
    return np.concatenate([np.empty(0, np.uint64), *kept])


class Joiner:
    """Marks word begins in a corpus whose solid n-grams are given."""

    def __init__(self, table: SymbolTable, order: int, solid: Keys) -> None:
        self.table, self.order = table, order
        self.slots = make_set(solid)

    def marked(self, corpus: Chunks) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
        """The corpus as blocks of symbols (n,) and begins (n,), true where a word begins."""
        left = 0
        for block in blocks(corpus, self.table, self.order, padded=False):
            begins = np.empty(block.owned, np.bool_)
            left = word_begins(
                block.symbols, block.owned, self.order, self.table.bits, self.slots, left, begins
            )
            yield block.symbols[: block.owned], begins

    def count_words(
        self,
        corpus: Chunks,
        advance: Advance = lambda symbols: None,
        workers: int | None = None,
        job_symbols: int = JOB_SYMBOLS,
    ) -> Pieces:
        """The words of a corpus and their counts, numbered as they are met; counted in threads."""
        workers = workers or usable_cores()
        table, waiting = new_table(), deque[Future[Pieces]]()
        with ThreadPoolExecutor(workers) as pool:
            for job in whole_words(self.marked(corpus), job_symbols, advance):
                waiting.append(pool.submit(count_pieces, *job))
                if len(waiting) > workers:
                    table = merge_pieces(table, waiting.popleft().result())
            while waiting:
                table = merge_pieces(table, waiting.popleft().result())
        return table


Marked = tuple[NDArray[np.uint32], NDArray[np.bool_]]  # symbols and where words begin, as in Joiner


def whole_words(
    stream: Iterator[Marked], job_symbols: int, advance: Advance = lambda symbols: None
) -> Iterator[Marked]:
    """The stream in parts of about `job_symbols`, each of which begins with a word."""
    parts: list[Marked] = []
    held = 0
    for symbols, begins in stream:
        advance(len(begins))
        parts.append((symbols, begins))
        held += len(begins)
        places = np.flatnonzero(begins)
        if held < job_symbols or not len(places):
            continue
        border = int(places[-1])
        parts[-1] = symbols[:border], begins[:border]
        yield _joined(parts)
        parts, held = [(symbols[border:], begins[border:])], len(begins) - border
    if held:
        yield _joined(parts)


def _joined(parts: list[Marked]) -> Marked:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
