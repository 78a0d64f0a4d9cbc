"""The best segmentation by a learned word model, compiled, for streams of any size.

All probabilities are tables of logarithms made once, so that a step is a look-up and a sum. A state
at a position is the last word; words that are not in the lexicon are one state, since nothing is
known of what follows them. A pair of words is looked up only where it could still win.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.segment import SAFE_TAIL
from kexue_cli.tasks.minent.word_trie import (
    FREE,
    HASH_FACTOR,
    LONGER,
    PARENT,
    ROOT,
    WORD,
    find_node,
    find_slot,
    numba,
)

WINDOW = 1 << 14  # characters of a piece that are held at a time
NEW = -1  # number of a word that is not in the lexicon
ALONE, BACK, BEST, REACH = range(4)  # fields of a word
FILTER_BITS = 8  # a pair, at least


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
    length        (max_length + 1,) of the length, and of the word's being new
    """

    symbol: NDArray[np.int32]
    head: NDArray[np.float64]
    tail: NDArray[np.float64]
    missed: NDArray[np.float64]
    character: NDArray[np.float64]
    keys: NDArray[np.int64]
    values: NDArray[np.float64]
    length: NDArray[np.float64]


@numba.njit(cache=True, nogil=True, inline="always")
def _step(spelling: Any, first: Any, second: Any) -> float:
    key = np.int64(first) << np.int64(32) | np.int64(second)
    slot = find_slot(spelling.keys, key)
    if spelling.keys[slot] == key:
        return float(spelling.values[slot])
    return float(spelling.missed[first] + spelling.character[second])


@numba.njit(cache=True, nogil=True, inline="always")
def _enter(room: Any, j: Any, word: Any, score: float, length: Any, before: Any, t: Any) -> None:
    """Note a last word at position j, unless another there is as good whatever comes next."""
    words, scores, lengths, came, sizes, free, favourite = room
    reach, back = (0.0, 0.0) if word == NEW else (t.words[word, REACH], t.words[word, BACK])
    if score + reach <= free[j]:
        return
    k = sizes[j]
    sizes[j] += 1
    words[j, k], scores[j, k], lengths[j, k], came[j, k] = word, score, length, before
    if score + back > free[j]:
        free[j], favourite[j] = score + back, k


@numba.njit(cache=True, nogil=True)
def _along(text: Any, size: Any, sp: Any) -> Any:
    """Spelling along a text: at each character the log weight of a new word's begin and of its end
    there; the sum of the steps from the text's first character to it is in the end, not in the
    begin, so that a word's spelling is the sum of two numbers.
    """
    heads, tails = np.empty(size), np.empty(size)
    total, last = 0.0, 0
    for i in range(size):
        symbol = sp.symbol[text[i]]
        if i > 0:
            total += _step(sp, last, symbol)
        heads[i], tails[i] = sp.head[symbol] - total, sp.tail[symbol] + total
        last = symbol
    return heads, tails


@numba.njit(cache=True, nogil=True, inline="always")
def _enter_new(
    j: Any, begins: Any, tail: float, known: Any, length: Any, t: Any, room: Any
) -> None:
    """Enter the best new word that ends at position j, if it beats the words of the lexicon."""
    longest = min(j, length.size - 1)
    best, found = -np.inf, 0
    for k in range(1, longest + 1):
        best = max(best, begins[j - k] + length[k])
    if best + tail <= room[5][j]:
        return
    best = -np.inf
    for k in range(1, longest + 1):
        if begins[j - k] + length[k] > best and not known[j - k] >> k & 1:
            best, found = begins[j - k] + length[k], k
    _enter(room, j, NEW, best + tail, found, room[6][j - found], t)


@numba.njit(cache=True, nogil=True, inline="always")
def _filter_bit(pair: Any, bits: Any) -> Any:
    place = pair * HASH_FACTOR
    return (place ^ (place >> np.int64(32))) & (bits - 1)


@numba.njit(cache=True, nogil=True, inline="always")
def _best_before(i: Any, w: Any, t: Any, room: Any) -> Any:
    """The log weight of w after the last word at position i that favours it most; that word."""
    words, scores, _, _, sizes, free, favourite = room
    value, before = free[i] + t.words[w, ALONE], favourite[i]
    for k in range(sizes[i]):
        v, score = words[i, k], scores[i, k]
        if v == NEW or score + t.words[w, BEST] <= value or score + t.words[v, REACH] <= free[i]:
            continue
        pair = np.int64(v) << np.int64(32) | np.int64(w)
        bit = _filter_bit(pair, 8 * t.filter.size)
        if t.filter[bit >> 3] >> (bit & 7) & 1:
            place = find_slot(t.keys, pair)
            if t.keys[place] == pair and score + t.values[place] > value:
                value, before = score + t.values[place], k
    return value, before


@numba.njit(cache=True, nogil=True)
def _forward(text: Any, size: Any, trie: Any, t: Any, sp: Any, room: Any) -> None:
    """Enter the last words of every position 1 … size of a text, whatever stands at 0."""
    heads, tails = _along(text, size, sp)
    known = np.zeros(size, np.int64)  # bit l: the l characters from here are a word of the lexicon
    free = room[5]
    for i in range(size):
        if i > 0:
            _enter_new(i, heads, tails[i - 1], known, sp.length, t, room)
        heads[i] += free[i]
        node = np.int64(ROOT)
        for j in range(i, min(size, i + sp.length.size - 1)):
            node = find_node(trie, node, text[j])
            if trie[node, PARENT] == FREE:
                break
            w = trie[node, WORD]
            if w >= 0:
                known[i] |= np.int64(1) << (j + 1 - i)
                value, before = _best_before(i, w, t, room)
                _enter(room, j + 1, w, value, j + 1 - i, before, t)
            if not trie[node, LONGER]:
                break
    _enter_new(size, heads, tails[size - 1], known, sp.length, t, room)


@numba.njit(cache=True, nogil=True)
def _best_last(j: Any, at_end: bool, t: Any, room: Any) -> int:
    words, scores, _, _, sizes, _, _ = room
    best, found = 0, -np.inf
    for k in range(sizes[j]):
        value = scores[j, k]
        if at_end:
            value += t.end[words[j, k]] if words[j, k] != NEW else t.end_new
        if value > found:
            best, found = k, value
    return best


@numba.njit(cache=True, nogil=True)
def _window(
    text: Any,
    begin: Any,
    size: Any,
    whole: bool,
    first: Any,
    trie: Any,
    t: Any,
    sp: Any,
    room: Any,
    ends: Any,
) -> Any:
    """Cut `size` characters from `begin` on, after the word `first`.

    Returns the number of characters settled and the last settled word.
    """  # fmt: skip
    words, _, lengths, came, sizes, free, _ = room
    sizes[: size + 1] = 0
    free[: size + 1] = -np.inf
    _enter(room, 0, first, 0.0, 0, 0, t)
    _forward(text[begin : begin + size], size, trie, t, sp, room)
    j, k = size, _best_last(size, whole, t, room)
    settled, word = size if whole else 0, words[j, k]
    while j > 0:
        if whole or j <= size - SAFE_TAIL:
            if settled < j:
                settled, word = j, words[j, k]
            ends[begin + j - 1] = True
        j, k = j - lengths[j, k], came[j, k]
    return settled, word


@numba.njit(cache=True, nogil=True)
def best_cut(text: Any, starts: Any, trie: Any, tables: Any, spelling: Any) -> Any:
    """Word ends (characters,) bool of the most probable segmentation of every piece.

    A piece longer than a window is settled window by window, all but the last characters of each.
    """
    states = spelling.length.size + 1
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, min(starts[p + 1] - starts[p], WINDOW))
    room = (
        np.empty((longest + 1, states), np.int32),
        np.empty((longest + 1, states)),
        np.empty((longest + 1, states), np.int16),
        np.empty((longest + 1, states), np.int16),
        np.empty(longest + 1, np.int32),
        np.empty(longest + 1),
        np.empty(longest + 1, np.int32),
    )
    ends = np.zeros(text.size, np.bool_)
    mark = tables.end.size - 1
    for p in range(starts.size - 1):
        begin, word = starts[p], mark
        while begin < starts[p + 1]:
            size = min(starts[p + 1] - begin, WINDOW)
            whole = begin + size == starts[p + 1]
            settled, word = _window(
                text, begin, size, whole, word, trie, tables, spelling, room, ends
            )
            begin += settled
    return ends


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
        bit = _filter_bit(pair, bits)
        table[bit >> 3] |= np.uint8(1) << np.uint8(bit & 7)
    return table
