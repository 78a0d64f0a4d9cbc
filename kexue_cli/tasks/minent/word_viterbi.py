"""The best segmentation by a learned word model, compiled, for streams of any size.

All probabilities are tables of logarithms made once, so that a step is a look-up and a sum. A state
at a position is the last word; words that are not in the lexicon are one state, since nothing is
known of what follows them. A pair of words is looked up only where it could still win.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.segment import CODE_BITS, SAFE_TAIL, find_slot, numba

WINDOW = 1 << 14  # characters of a piece that are held at a time
NEW = -1  # number of a word that is not in the lexicon


class Trie(NamedTuple):
    """Words as a hashed trie, see `WordTrie`."""

    keys: NDArray[np.int64]
    nodes: NDArray[np.int32]
    parents: NDArray[np.uint8]
    word: NDArray[np.int32]


class WordTables(NamedTuple):
    """Log weights of words, the weight of their length included; word `words` is a piece's end.

    alone         (words,) of the word after any other, back-off apart
    back          (words + 1,) of backing off after the word
    best          (words,) of the word after the one that favours it most
    end           (words + 1,) of the piece's end after the word;  end_new: after a new word
    keys, values  (slots,) hash of v << 32 | w: log weight of w after v
    """

    alone: NDArray[np.float64]
    back: NDArray[np.float64]
    best: NDArray[np.float64]
    end: NDArray[np.float64]
    end_new: float
    keys: NDArray[np.int64]
    values: NDArray[np.float64]


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
def _enter(room: Any, j: Any, word: Any, score: float, length: Any, before: Any) -> None:
    """Note a last word at position j; a new word takes place 0."""
    words, scores, lengths, came, sizes = room
    k = 0
    if word != NEW:
        k = sizes[j]
        sizes[j] += 1
    words[j, k], scores[j, k], lengths[j, k], came[j, k] = word, score, length, before


@numba.njit(cache=True, nogil=True)
def _along(text: Any, size: Any, sp: Any) -> Any:
    """Log weights of the step from each character to the next, and of a word's end after it."""
    steps, tails = np.empty(size), np.empty(size)
    last = sp.symbol[text[0]]
    for i in range(size):
        tails[i] = sp.tail[last]
        if i + 1 < size:
            following = sp.symbol[text[i + 1]]
            steps[i] = _step(sp, last, following)
            last = following
    return steps, tails


@numba.njit(cache=True, nogil=True, inline="always")
def _favourite(i: Any, t: Any, room: Any) -> Any:
    """The best last word at position i for a word to which it means nothing; its log weight."""
    words, scores, _, _, sizes = room
    free, favourite = -np.inf, 0
    for k in range(sizes[i]):
        value = scores[i, k] + (t.back[words[i, k]] if words[i, k] != NEW else 0.0)
        if value > free:
            free, favourite = value, k
    return free, favourite


@numba.njit(cache=True, nogil=True, inline="always")
def _best_before(i: Any, w: Any, value: float, favourite: Any, t: Any, room: Any) -> Any:
    """The last word at position i that favours w most, if it beats `value`; the log weight."""
    words, scores, _, _, sizes = room
    before = favourite
    for k in range(sizes[i]):
        v = words[i, k]
        if v != NEW and scores[i, k] + t.best[w] > value:
            pair = np.int64(v) << np.int64(32) | np.int64(w)
            place = find_slot(t.keys, pair)
            if t.keys[place] == pair and scores[i, k] + t.values[place] > value:
                value, before = scores[i, k] + t.values[place], k
    return value, before


@numba.njit(cache=True, nogil=True)
def _forward(text: Any, size: Any, trie: Any, t: Any, sp: Any, room: Any) -> None:
    """Enter the last words of every position 1 … size of a text, whatever stands at 0."""
    steps, tails = _along(text, size, sp)
    scores = room[1]
    for i in range(size):
        free, favourite = _favourite(i, t, room)
        known, node = np.int64(0), np.int64(0)
        longest = min(size - i, sp.length.size - 1)
        for length in range(1, longest + 1):
            key = node << np.int64(CODE_BITS) | np.int64(text[i + length - 1])
            slot = find_slot(trie.keys, key)
            if trie.keys[slot] == -1:
                break
            node = np.int64(trie.nodes[slot])
            w = trie.word[node]
            if w >= 0:
                known |= np.int64(1) << length
                value, before = _best_before(i, w, free + t.alone[w], favourite, t, room)
                _enter(room, i + length, w, value, length, before)
            if trie.parents[node] == 0:
                break
        value = free + sp.head[sp.symbol[text[i]]]
        for length in range(1, longest + 1):
            if length > 1:
                value += steps[i + length - 2]
            if not known >> length & 1:
                new = value + tails[i + length - 1] + sp.length[length]
                if new > scores[i + length, 0]:
                    _enter(room, i + length, NEW, new, length, favourite)


@numba.njit(cache=True, nogil=True)
def _best_last(j: Any, at_end: bool, t: Any, room: Any) -> int:
    words, scores, _, _, sizes = room
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
    words, scores, lengths, came, sizes = room
    sizes[: size + 1] = 1
    words[: size + 1, 0] = NEW
    scores[: size + 1, 0] = -np.inf
    words[0, 0], scores[0, 0] = first, 0.0
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
    )
    ends = np.zeros(text.size, np.bool_)
    mark = tables.back.size - 1
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
    slots = 1 << int(np.ceil(np.log2(2 * len(keys) + 16)))
    placed, of_slot = np.full(slots, -1, np.int64), np.zeros(slots)
    _fill(placed, of_slot, keys, values)
    return placed, of_slot


@numba.njit(cache=True, nogil=True)
def _fill(placed: Any, of_slot: Any, keys: Any, values: Any) -> None:
    for i in range(keys.size):
        slot = find_slot(placed, keys[i])
        placed[slot] = keys[i]
        of_slot[slot] = values[i]
