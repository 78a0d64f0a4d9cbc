"""Distinct pieces of text (candidate words) and their counts: a compiled hash table that grows.

Pieces are strings of symbols; entries are numbered in the order in which they were first seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import numba

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 1 << 16  # symbols counted at a time: the table is given room for so many new ones
RECENT_BITS = 16  # their table fits the second-level cache
CODE_POINT_BITS = 21
MAX_PIECE = 255  # of candidate words; longer ones are no words and are not kept


class Pieces(NamedTuple):
    """The table's arrays, as the compiled functions take them.

    slots   (power of two,) int32: entry number, -1 where empty
    hashes  (entries,) uint64
    ends    (entries,) int64: where the entry's symbols end in `pool`; they begin where the last end
    counts  (entries,) int64
    pool    (symbols,) uint32
    filled  (3,) int64: entries, symbols in use; pieces left out as longer than MAX_PIECE
    """

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    pool: NDArray[np.uint32]
    filled: NDArray[np.int64]


@numba.njit(nogil=True, cache=True, inline="always")
def extend_hash(value: np.uint64, symbol: np.uint32) -> np.uint64:
    """Hash of a string one symbol longer."""
    value = (value ^ np.uint64(symbol)) * MULTIPLIER
    return value ^ (value >> np.uint64(29))


@numba.njit(nogil=True, cache=True)
def find(table: Pieces, symbols: NDArray[np.uint32], begin: int, end: int, value: np.uint64) -> int:
    """The entry of symbols[begin:end], whose hash is `value`; -1 - slot where there is none."""
    mask = np.uint64(table.slots.size - 1)
    slot = (value >> np.uint64(7)) & mask
    while table.slots[slot] >= 0:
        entry = table.slots[slot]
        if table.hashes[entry] == value:
            first = table.ends[entry - 1] if entry else 0
            if table.ends[entry] - first == end - begin:
                same = True
                for k in range(end - begin):
                    same &= table.pool[first + k] == symbols[begin + k]
                if same:
                    return entry
        slot = (slot + np.uint64(1)) & mask
    return int(-1 - np.int64(slot))


@numba.njit(nogil=True, cache=True)
def add(table: Pieces, symbols: NDArray[np.uint32], begin: int, end: int, count: int) -> int:
    """Add to the count of symbols[begin:end]; returns its entry. There must be room."""
    value = np.uint64(0)
    for i in range(begin, end):
        value = extend_hash(value, symbols[i])
    entry = find(table, symbols, begin, end, value)
    if entry >= 0:
        table.counts[entry] += count
        return entry
    slot = -1 - entry
    entry = table.filled[0]
    place = table.filled[1]
    table.slots[slot] = entry
    table.hashes[entry] = value
    table.counts[entry] = count
    for i in range(begin, end):
        table.pool[place] = symbols[i]
        place += 1
    table.ends[entry] = place
    table.filled[0] += 1
    table.filled[1] = place
    return entry


@numba.njit(nogil=True, cache=True)
def add_words(
    table: Pieces,
    symbols: NDArray[np.uint32],
    begins: NDArray[np.bool_],
    word: NDArray[np.uint32],
    length: int,
    recent: NDArray[np.uint64],
    entries: NDArray[np.int64],
) -> int:
    """Count the words of a block; word[:length] is the unfinished one, its new length returned.

    `word` has room for the whole block besides. `recent` and `entries` are as in
    `add_words_within`.
    """
    shift, short = np.uint64(CODE_POINT_BITS), 64 // CODE_POINT_BITS
    for i in range(begins.size):
        if length and (symbols[i] == 0 or begins[i]):
            if length <= short:
                key = np.uint64(0)
                for k in range(length):
                    key = (key << shift) | np.uint64(word[k])
                place = (key * MULTIPLIER) >> np.uint64(64 - RECENT_BITS)
                if recent[place] == key:
                    table.counts[entries[place]] += 1
                else:
                    recent[place], entries[place] = key, add(table, word, 0, length, 1)
            else:
                add(table, word, 0, length, 1)
            length = 0
        if symbols[i]:
            word[length] = symbols[i]
            length += 1
    return length


@numba.njit(nogil=True, cache=True)
def add_words_within(
    table: Pieces,
    symbols: NDArray[np.uint32],
    begins: NDArray[np.bool_],
    first: int,
    end: int,
    bits: int,
    recent: NDArray[np.uint64],
    entries: NDArray[np.int64],
) -> None:
    """Count the words that begin at first … end - 1; there are MAX_PIECE symbols beyond the end.

    Symbols have so many bits. Most short words are found without a search: recent (2**RECENT_BITS,)
    holds the symbols, packed, of one word of each hash that was met last, entries (2**RECENT_BITS,)
    its entry.
    """
    shift, short = np.uint64(bits), 64 // bits
    i = first
    while i < end:
        if not begins[i]:
            i += 1
            continue
        key = np.uint64(symbols[i])
        j = i + 1
        while j - i <= MAX_PIECE and symbols[j] != 0 and not begins[j]:
            key = (key << shift) | np.uint64(symbols[j])
            j += 1
        if j - i > MAX_PIECE:
            table.filled[2] += 1
        elif j - i > short:
            add(table, symbols, i, j, 1)
        else:
            place = (key * MULTIPLIER) >> np.uint64(64 - RECENT_BITS)
            if recent[place] == key:
                table.counts[entries[place]] += 1
            else:
                recent[place], entries[place] = key, add(table, symbols, i, j, 1)
        i = j


def no_recent() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """`recent` and `entries` of `add_words_within` where no word has been met."""
    return np.zeros(1 << RECENT_BITS, np.uint64), np.zeros(1 << RECENT_BITS, np.int64)


@numba.njit(nogil=True, cache=True)
def _add_all(table: Pieces, more: Pieces) -> None:
    begin = 0
    for entry in range(more.filled[0]):
        add(table, more.pool, begin, more.ends[entry], more.counts[entry])
        begin = more.ends[entry]
    table.filled[2] += more.filled[2]


@numba.njit(nogil=True, cache=True)
def fill_slots(slots: NDArray[np.int32], hashes: NDArray[np.uint64]) -> None:
    """Enter all entries into empty slots."""
    mask = np.uint64(slots.size - 1)
    for entry in range(hashes.size):
        slot = (hashes[entry] >> np.uint64(7)) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = entry


def new_table(entries: int = 1 << 12, symbols: int = 1 << 14) -> Pieces:
    """An empty table with room for so many entries and symbols."""
    slots = np.full(1 << max(4, (2 * entries - 1).bit_length()), -1, np.int32)
    return Pieces(
        slots,
        np.empty(entries, np.uint64),
        np.empty(entries, np.int64),
        np.empty(entries, np.int64),
        np.empty(symbols, np.uint32),
        np.zeros(3, np.int64),
    )


def with_room(table: Pieces, symbols: int) -> Pieces:
    """The table, or a larger copy that can take `symbols` more symbols in as many entries."""
    entries, used, _ = map(int, table.filled)
    if entries + symbols <= len(table.ends) and used + symbols <= len(table.pool):
        return table
    larger = new_table(max(2 * entries, entries + symbols), max(2 * used, used + symbols))
    for old, new, length in zip(
        (table.hashes, table.ends, table.counts, table.pool),
        (larger.hashes, larger.ends, larger.counts, larger.pool),
        (entries, entries, entries, used),
        strict=True,
    ):
        new[:length] = old[:length]  # type: ignore[index]
    larger.filled[:] = table.filled
    fill_slots(larger.slots, larger.hashes[:entries])
    return larger


class PieceCounter:
    """Counts the words of a marked symbol stream, block by block; memory grows with their kinds.

    Words of any length are counted: every token of a segmented text is one.
    """

    def __init__(self) -> None:
        self.table, self.recent = new_table(), no_recent()
        self.word = np.empty(BLOCK, np.uint32)
        self.length = 0

    def add(self, symbols: NDArray[np.uint32], begins: NDArray[np.bool_]) -> None:
        """Count the words of a block: symbols (n,), begins (n,) true where a word begins."""
        room = len(begins) + self.length
        self.table = with_room(self.table, room)
        if room > len(self.word):
            begun, self.word = self.word[: self.length], np.empty(2 * room, np.uint32)
            self.word[: self.length] = begun
        self.length = add_words(self.table, symbols, begins, self.word, self.length, *self.recent)

    def finish(self) -> Pieces:
        """The table once the last word is counted too."""
        self.add(np.zeros(1, np.uint32), np.zeros(1, np.bool_))
        return self.table


class Workspace:
    """What counting the words of a stretch needs, used again: fresh memory would cost more time."""

    def __init__(self) -> None:
        self.table = new_table()
        self.recent, self.entries = no_recent()
        self.begins = np.empty(0, np.bool_)
        self.reach = np.empty(0, np.uint8)

    def prepare(self, symbols: int) -> None:
        """Forget all words; make room for a stretch of so many symbols."""
        self.table.slots.fill(-1)
        self.table.filled.fill(0)
        self.recent.fill(0)
        if len(self.begins) < symbols:
            self.begins = np.empty(symbols + symbols // 16, np.bool_)
            self.reach = np.empty(len(self.begins), np.uint8)

    def count(self, symbols: NDArray[np.uint32], first: int, end: int, bits: int) -> None:
        """Count the words of a stretch (n,) that begin at first … end - 1, into `table`.

        The symbols, below 2**bits, and `begins`, true where a word begins, go on for MAX_PIECE
        beyond the end.
        """
        for start in range(first, end, BLOCK):
            stop = min(start + BLOCK, end)
            self.table = with_room(self.table, stop - start + MAX_PIECE)
            add_words_within(
                self.table, symbols, self.begins, start, stop, bits, self.recent, self.entries
            )


def merge_pieces(table: Pieces, more: Pieces) -> Pieces:
    """The table, or a larger one, with the counts of another added; new entries come last."""
    table = with_room(table, int(more.filled[1]))
    _add_all(table, more)
    return table


def counts_of(table: Pieces) -> NDArray[np.int64]:
    """Counts (entries,)."""
    return table.counts[: int(table.filled[0])]


def lengths_of(table: Pieces) -> NDArray[np.int64]:
    """Lengths in symbols (entries,)."""
    return np.diff(table.ends[: int(table.filled[0])], prepend=0)
