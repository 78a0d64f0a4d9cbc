"""Pre-cutting text by joining: a word grows while a solid n-gram overlaps its end.

Solid n-grams (those with enough mutual information) are kept as a hash set of n-gram keys, filled
up with zeros to the full order, so that keys of different lengths never meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent.frequent import FrequentNgrams
from kexue_cli.tasks.minent.ngram_kernels import Keys, numba
from kexue_cli.tasks.minent.ngrams import Advance
from kexue_cli.tasks.minent.piece_table import (
    MAX_PIECE,
    Pieces,
    Workspace,
    merge_pieces,
    new_table,
)
from kexue_cli.tasks.minent.symbols import Chunks, SymbolTable, blocks

SPREAD = np.uint64(0x9E3779B97F4A7C15)
JOB_SYMBOLS = 1 << 20  # of which one thread counts the words at a time
SIEVE_BITS = 21
SLICE = 1 << 16  # n-grams that one thread measures at a time
INDEX_BITS = 16
Measured = tuple[Keys, NDArray[np.float64]]  # n-grams filled up to the full order, and their nats


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
def make_sieve(keys: Keys) -> NDArray[np.uint64]:
    """A bit for each of the hashes that the keys have: small enough for the cache, unlike the set.

    A key whose bit is 0 is not in the set.
    """
    sieve = np.zeros(1 << (SIEVE_BITS - 6), np.uint64)
    for key in keys:
        bit = (key * SPREAD) >> np.uint64(64 - SIEVE_BITS)
        sieve[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    return sieve


@numba.njit(nogil=True, cache=True, inline="always")
def passes(sieve: NDArray[np.uint64], key: np.uint64) -> bool:
    """Whether a key may be in the set."""
    bit = (key * SPREAD) >> np.uint64(64 - SIEVE_BITS)
    return bool((sieve[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))


@numba.njit(nogil=True, cache=True)
def word_begins(
    symbols: NDArray[np.uint32],
    order: int,
    bits: int,
    solid: Keys,
    sieve: NDArray[np.uint64],
    reach: NDArray[np.uint8],
    begins: NDArray[np.bool_],
) -> None:
    """Mark the symbols at which a word begins: where no solid n-gram takes them in.

    reach, begins (at least symbols,) are written: the length of the longest solid n-gram from each
    symbol on, and whether a word begins there.
    """
    shift = np.uint64(bits)
    top = np.uint64((order - 1) * bits)
    reach[: symbols.size] = 1
    key = np.uint64(0)
    for i in range(symbols.size - 1, -1, -1):
        key = (np.uint64(symbols[i]) << top) | (key >> shift) if symbols[i] else np.uint64(0)
        if symbols[i] == 0:
            continue
        prefix = key
        for m in range(order, 1, -1):
            drop = np.uint64((order - m) * bits)
            prefix = (prefix >> drop) << drop
            last = (prefix >> drop) & ((np.uint64(1) << shift) - np.uint64(1))
            if last and passes(sieve, prefix) and in_set(solid, prefix):
                reach[i] = m
                break
    left = 0  # symbols that the word takes in yet
    for i in range(symbols.size):
        if symbols[i] == 0:
            begins[i] = False
            left = 0
            continue
        begins[i] = left == 0
        left = max(left, reach[i]) - 1


@numba.njit(nogil=True, cache=True)
def lower_ratios(
    keys: Keys,
    numbers: NDArray[np.uint64],
    tail_bits: int,
    left: Keys,
    left_numbers: NDArray[np.uint64],
    right: Keys,
    right_numbers: NDArray[np.uint64],
    right_index: NDArray[np.int64],
    index_shift: int,
    totals: NDArray[np.float64],
    ratios: NDArray[np.float64],
) -> None:
    """Lower ratios (n,) to scale * N(w) / (N(left part) * N(right part)) of each key w, ascending.

    The left part is the key without its last `tail_bits`, the right part is those bits; both are
    looked up in counted n-grams, the right ones from right_index[part >> index_shift] on. totals
    are the scale and the counts of a left and of a right part that is not there.
    """
    tail = np.uint64(tail_bits)
    mask = (np.uint64(1) << tail) - np.uint64(1)
    place = np.searchsorted(left, keys[0] >> tail) if keys.size else 0
    for i in range(keys.size):
        part = keys[i] >> tail
        while place < left.size and left[place] < part:
            place += 1
        a = totals[1]
        if place < left.size and left[place] == part:
            a = float(left_numbers[place])
        part = keys[i] & mask
        digit = part >> np.uint64(index_shift)
        low, high = right_index[digit], right_index[digit + np.uint64(1)]
        while low < high:
            middle = (low + high) >> 1
            if right[middle] < part:
                low = middle + 1
            else:
                high = middle
        b = totals[2]
        if low < right.size and right[low] == part:
            b = float(right_numbers[low])
        ratio = totals[0] * float(numbers[i]) / (a * b)
        ratios[i] = min(ratios[i], ratio)


def cohesion(ngrams: FrequentNgrams, m: int, totals: list[int], pool: Executor) -> Measured:
    """The m-grams, filled up to the full order, and their mutual information, nats.

    It is ln N(w)/T_m - ln N(left)/T_j - ln N(right)/T_(m-j), the smallest over all places j where
    the m-gram can be split; totals[j - 1] = T_j. A part that was never counted has probability one.
    """
    keys, numbers = ngrams.grams[m - 1]
    bits = ngrams.table.bits
    smallest = np.full(len(keys), np.inf)

    def measure(begin: int) -> NDArray[np.float64]:
        part = slice(begin, begin + SLICE)
        for j in range(1, m):
            ratios = totals[j - 1] * totals[m - j - 1] / totals[m - 1]  # of integers: rounded once
            scale = np.array([ratios, totals[j - 1], totals[m - j - 1]], np.float64)
            lower_ratios(
                keys[part], numbers[part], (m - j) * bits, *ngrams.grams[j - 1],
                *ngrams.grams[m - j - 1], *indices[m - j], scale, smallest[part],
            )  # fmt: skip
        return np.log(smallest[part])

    indices = {n: _index(ngrams.grams[n - 1][0], n * bits) for n in range(1, m)}
    nats = [np.empty(0), *pool.map(measure, range(0, len(keys), SLICE))]
    return keys << np.uint64((ngrams.order - m) * bits), np.concatenate(nats)


def _index(keys: Keys, bits: int) -> tuple[NDArray[np.int64], int]:
    """Where keys of each value of their top bits begin (values + 1,), and the bits below those."""
    below = max(0, bits - INDEX_BITS)
    edges = np.arange((1 << (bits - below)) + 1, dtype=np.uint64) << np.uint64(below)
    return np.searchsorted(keys, edges), below


def cohesions(ngrams: FrequentNgrams, shared_total: int | None = None) -> list[Measured]:
    """The n-grams of orders 2, 3, … with their cohesion.

    `shared_total` stands for the total of every order, as the author of the method has it; by
    default each order has its own.
    """
    totals = [shared_total or total for total in ngrams.totals]
    with ThreadPoolExecutor(available_cores()) as pool:
        return [cohesion(ngrams, m, totals, pool) for m in range(2, ngrams.order + 1)]


def solid_ngrams(measured: Sequence[Measured], min_pmi: Sequence[float]) -> Keys:
    """Keys of the measured n-grams of order m whose cohesion reaches min_pmi[m - 1], nats."""
    kept = [keys[nats >= least] for (keys, nats), least in zip(measured, min_pmi[1:], strict=False)]
    return np.concatenate([np.empty(0, np.uint64), *kept])


class Joiner:
    """Marks word begins in a corpus whose solid n-grams are given."""

    def __init__(self, table: SymbolTable, order: int, solid: Keys) -> None:
        self.table, self.order, self.solid = table, order, solid
        self.slots, self.sieve = make_set(solid), make_sieve(solid)

    def state(self) -> dict[str, Any]:
        """Tensors and numbers that `from_state` takes."""
        import torch  # only here: counting alone does not need it

        return {
            "order": self.order,
            "first_symbol": self.table.first,
            "code_points": torch.from_numpy(self.table.code_points.astype(np.int64)),
            "solid": torch.from_numpy(self.solid.view(np.int64)),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> Joiner:
        """The joiner that `state` described."""
        code_points = state["code_points"].numpy().astype(np.uint32)
        table = SymbolTable(code_points, int(state["first_symbol"]))
        return Joiner(table, int(state["order"]), state["solid"].numpy().view(np.uint64))

    def count_words(
        self,
        corpus: Chunks,
        advance: Advance = lambda symbols: None,
        workers: int | None = None,
        job_symbols: int = JOB_SYMBOLS,
    ) -> Pieces:
        """The words of a corpus and their counts, numbered as they are met; counted in threads."""
        workers = workers or available_cores()
        table, waiting = new_table(), deque[Future[Workspace]]()
        free = [Workspace() for _ in range(workers + 1)]
        with ThreadPoolExecutor(workers) as pool:
            for stretch in self._stretches(corpus, job_symbols, advance):
                waiting.append(pool.submit(self._count, stretch, free.pop()))
                if not free:
                    free.append(waiting.popleft().result())
                    table = merge_pieces(table, free[0].table)
            while waiting:
                table = merge_pieces(table, waiting.popleft().result().table)
        return table

    def _count(self, stretch: NDArray[np.uint32], space: Workspace) -> Workspace:
        """The words that begin in a stretch, but for the margins on both sides of it."""
        bits, end = self.table.bits, len(stretch) - MAX_PIECE - self.order
        space.prepare(len(stretch))
        word_begins(stretch, self.order, bits, self.slots, self.sieve, space.reach, space.begins)
        space.count(stretch, self.order - 1, end, bits)
        return space

    def _stretches(
        self, corpus: Chunks, job_symbols: int, advance: Advance
    ) -> Iterator[NDArray[np.uint32]]:
        """The symbol stream in parts of about `job_symbols`, each with what its words depend on.

        That is the order - 1 symbols before it, and after it the rest of a word that is not too
        long and the n-grams in that.
        """
        before, after = self.order - 1, MAX_PIECE + self.order
        held = [np.zeros(before, np.uint32)]
        size = before
        for block in blocks(corpus, self.table, 1, padded=False):
            advance(block.owned)
            held.append(block.symbols)
            size += block.owned
            if size >= before + job_symbols + after:
                whole = np.concatenate(held)
                yield whole
                held = [whole[len(whole) - after - before :]]
                size = len(held[0])
        yield np.concatenate([*held, np.zeros(after, np.uint32)])
