"""Tables of logarithms of a learned word model, as the compiled search takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.word_trie import HASH_FACTOR, find_slot, numba

ALONE, BACK, BEST, REACH = range(4)  # fields of a word
FILTER_BITS = 8  # a pair, at least
LANES = 16  # word lengths are worked on so many at a time


class WordTables(NamedTuple):
    """Log weights of words, the weight of their length included; word `words` is a piece's end.

    words         (words + 1, 4) of the word after any other, back-off apart; of backing off after
                  it; of it after the word that favours it most; and the most that what comes next
                  can gain from its being there
    end           (words + 1,) of the piece's end after the word;  end_new: after a new word
    keys, values  (slots,) hash of v << 32 | w: log weight of w after v
    filter        (bytes,) bits that are set for the pairs there are, and for few others
    """

    words: NDArray[np.float64]
    end: NDArray[np.float64]
    end_new: float
    keys: NDArray[np.int64]
    values: NDArray[np.float64]
    filter: NDArray[np.uint8]


class SpellingTables(NamedTuple):
    """Log weights of new words by their symbols.

    symbol        (code points,) number of each character, `size` for one never seen
    head, tail    (size + 1,) of a symbol that begins, ends a word
    missed        (size + 1,) of a pair never seen, by its first symbol
    character     (size + 1,) and by its second
    keys, values  (slots,) hash of first << 32 | second
    every         (size + 1, size + 1) all pairs, or (0, 0) where they are too many
    length        (max_length,) of the length, from 1 on, and of the word's being new; -inf fills it
                  up to a multiple of LANES
    max_length    of a word
    """

    symbol: NDArray[np.int32]
    head: NDArray[np.float64]
    tail: NDArray[np.float64]
    missed: NDArray[np.float64]
    character: NDArray[np.float64]
    keys: NDArray[np.int64]
    values: NDArray[np.float64]
    every: NDArray[np.float64]
    length: NDArray[np.float64]
    max_length: int


@numba.njit(cache=True, nogil=True, inline="always")
def filter_bit(pair: Any, bits: Any) -> Any:
    """Which of the filter's bits (a power of two) stands for a pair."""
    place = pair * HASH_FACTOR
    return (place ^ (place >> np.int64(32))) & (bits - 1)


def hash_table(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """An open hash table of distinct keys >= 0: slots of keys (-1: free) and of their values."""
    slots = np.zeros((1 << int(np.ceil(np.log2(2 * len(keys) + 16))), 2), np.int64)
    placed, of_slot = slots[:, 0], slots.view(np.float64)[:, 1]  # side by side in memory
    placed[:] = -1
    _fill(placed, of_slot, keys, values)
    return placed, of_slot


@numba.njit(cache=True, nogil=True)
def _fill(placed: Any, of_slot: Any, keys: Any, values: Any) -> None:
    for i in range(keys.size):
        slot = find_slot(placed, keys[i])
        placed[slot] = keys[i]
        of_slot[slot] = values[i]


@numba.njit(cache=True, nogil=True)
def pair_filter(pairs: Any) -> Any:
    """Bits that say of most pairs that are not among `pairs` (pairs,) that they are not."""
    bits = np.int64(64)
    while bits < FILTER_BITS * pairs.size:
        bits *= 2
    table = np.zeros(bits // 8, np.uint8)
    for pair in pairs:
        bit = filter_bit(pair, bits)
        table[bit >> 3] |= np.uint8(1) << np.uint8(bit & 7)
    return table
