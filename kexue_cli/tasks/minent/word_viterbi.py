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
from kexue_cli.tasks.minent.word_tables import ALONE, BACK, BEST, LANES, REACH, filter_bit
from kexue_cli.tasks.minent.word_trie import (
    FIRST,
    NONE,
    ROOT,
    WORD,
    find_slot,
    follow,
    numba,
)

WINDOW = 1 << 14  # characters of a piece that are held at a time
NEW = -1  # number of a word that is not in the lexicon
BEFORE_BITS = 16  # of a state's number, beside the length of its word


class Room(NamedTuple):
    """Where a window is worked on; positions are 0 … size, characters 0 … size - 1.

    words, scores      (positions, states) last word and log weight of all up to it
    trail              (positions, states) length of that word << BEFORE_BITS | state before it
    states             (positions,) how many there are
    free, favourite    (positions,) the largest score, backing off included, and its state
    numbers            (characters,) in the trie
    begins             (characters,) log weight of all before it and of a new word's begin
    tails              (characters,) of its end there
    fresh              (positions + lengths,) the largest of begin and length of a new word's end
    live, known, kept  (states,) scratch
    """

    words: NDArray[np.int32]
    scores: NDArray[np.float64]
    trail: NDArray[np.int32]
    states: NDArray[np.int64]
    free: NDArray[np.float64]
    favourite: NDArray[np.int64]
    numbers: NDArray[np.int32]
    begins: NDArray[np.float64]
    tails: NDArray[np.float64]
    fresh: NDArray[np.float64]
    live: NDArray[np.int64]
    known: NDArray[np.int64]
    kept: NDArray[np.float64]


@numba.njit(cache=True, nogil=True, inline="always")
def _step(spelling: Any, first: Any, second: Any) -> float:
    if spelling.every.size:
        return float(spelling.every[first, second])
    key = np.int64(first) << np.int64(32) | np.int64(second)
    slot = find_slot(spelling.keys, key)
    if spelling.keys[slot] == key:
        return float(spelling.values[slot])
    return float(spelling.missed[first] + spelling.character[second])


@numba.njit(cache=True, nogil=True)
def _along(text: Any, numbers: Any, sp: Any, room: Any) -> None:
    """Spelling along a text: at each character the log weight of a new word's begin and of its end
    there; the sum of the steps from the text's first character to it is in the end, not in the
    begin, so that a word's spelling is the sum of two numbers.
    """
    total, last = 0.0, np.int64(0)
    for i in range(text.size):
        symbol = np.int64(sp.symbol[text[i]])
        if i > 0:
            total += _step(sp, last, symbol)
        room.begins[i], room.tails[i] = sp.head[symbol] - total, sp.tail[symbol] + total
        room.numbers[i] = numbers[text[i]]
        last = symbol


@numba.njit(cache=True, nogil=True, inline="always")
def _pair(v: Any, w: Any, keys: Any, values: Any, present: Any) -> Any:
    """Log weight of the word w after v, -inf where the pair was never seen."""
    pair = np.int64(v) << np.int64(32) | np.int64(w)
    bit = filter_bit(pair, 8 * present.size)
    if present[bit >> 3] >> (bit & 7) & 1:
        place = find_slot(keys, pair)
        if keys[place] == pair:
            return values[place]
    return -np.inf


@numba.njit(cache=True, nogil=True, inline="always")
def _alive(i: Any, states: Any, words: Any, scores: Any, free: Any, table: Any, live: Any) -> Any:
    """Note in `live` the states at i that a pair of words could still make the best; how many."""
    count = 0
    for k in range(states):
        v = words[i, k]
        if v != NEW and scores[i, k] + table[v, REACH] > free:
            live[count] = k
            count += 1
    return count


@numba.njit(cache=True, nogil=True, inline="always")
def _extend_new(i: Any, begin: Any, length: Any, fresh: Any, known: Any, kept: Any, n: Any) -> None:
    """Offer a new word that begins at position i to the positions where it could end.

    Those at which a word of the lexicon ends, the first n of `known`, keep what they had.
    """
    for k in range(0, length.size, LANES):
        for m in range(LANES):
            score = begin + length[k + m]
            if score > fresh[i + 1 + k + m]:
                fresh[i + 1 + k + m] = score
    for k in range(n):
        fresh[known[k]] = kept[k]


@numba.njit(cache=True, nogil=True)
def _forward(size: Any, nodes: Any, t: Any, sp: Any, room: Any) -> None:
    """Enter the last words of every position 1 … size of a window, whatever stands at 0.

    A state is noted unless another there is as good whatever comes next. Fields are unpacked once:
    inside the loop that would count references.
    """
    (words, scores, trail, states, free, favourite) = room[:6]
    (numbers, begins, tails, fresh, live, known, kept) = room[6:]
    table, keys, values, present = t.words, t.keys, t.values, t.filter
    length, longest = sp.length, sp.max_length
    for i in range(size + 1):
        new = fresh[i] + tails[i - 1]  # at 0 never: there fresh is -inf
        if new > free[i]:
            free[i], favourite[i] = new, states[i]
            words[i, states[i]], scores[i, states[i]] = NEW, new
            states[i] += 1
        if i == size:
            return
        here = free[i]
        alive = _alive(i, states[i], words, scores, here, table, live)
        begins[i] += here
        node, n = np.int64(ROOT), 0
        for j in range(i, min(size, i + longest)):
            node = follow(nodes, node, numbers[j])
            if node == NONE:
                break
            w = nodes[node, WORD]
            if w >= 0:
                known[n], kept[n] = j + 1, fresh[j + 1]
                n += 1
                value, before = here + table[w, ALONE], favourite[i]
                for k in live[:alive]:
                    if scores[i, k] + table[w, BEST] > value:
                        score = scores[i, k] + _pair(words[i, k], w, keys, values, present)
                        value, before = (score, k) if score > value else (value, before)
                if value + table[w, REACH] > free[j + 1]:
                    k = states[j + 1]
                    states[j + 1] = k + 1
                    words[j + 1, k], scores[j + 1, k] = w, value
                    trail[j + 1, k] = (j + 1 - i) << BEFORE_BITS | before
                    if value + table[w, BACK] > free[j + 1]:
                        free[j + 1], favourite[j + 1] = value + table[w, BACK], k
            if nodes[node, FIRST] == NONE:
                break
        _extend_new(i, begins[i], length, fresh, known, kept, n)


@numba.njit(cache=True, nogil=True)
def _best_last(j: Any, at_end: bool, t: Any, room: Any) -> int:
    best, found = 0, -np.inf
    for k in range(room.states[j]):
        value, word = room.scores[j, k], room.words[j, k]
        if at_end:
            value += t.end[word] if word != NEW else t.end_new
        if value > found:
            best, found = k, value
    return best


@numba.njit(cache=True, nogil=True)
def _new_length(j: Any, nodes: Any, sp: Any, room: Any) -> int:
    """Length of the new word that was entered at position j: the shortest that weighs as much."""
    for length in range(1, min(j, sp.max_length) + 1):
        if room.begins[j - length] + sp.length[length - 1] != room.fresh[j]:
            continue
        node = np.int64(ROOT)
        for i in range(j - length, j):
            node = follow(nodes, node, room.numbers[i])
            if node == NONE:
                return length
        if nodes[node, WORD] < 0:
            return length
    return 1


@numba.njit(cache=True, nogil=True)
def _before(j: Any, k: Any, nodes: Any, sp: Any, room: Any) -> Any:
    """Where the word of state k at position j begins, and the state there."""
    if room.words[j, k] == NEW:
        j -= _new_length(j, nodes, sp, room)
        return j, room.favourite[j]
    trail = np.int64(room.trail[j, k])
    return j - (trail >> BEFORE_BITS), trail & ((1 << BEFORE_BITS) - 1)


@numba.njit(cache=True, nogil=True)
def _window(
    text: Any, whole: bool, first: Any, trie: Any, t: Any, sp: Any, room: Any, ends: Any
) -> Any:
    """Cut a window (characters,) after the word `first`; `whole`: a piece ends with it.

    Returns the number of characters settled and the last settled word.
    """
    size = text.size
    room.states[: size + 1] = 0
    room.free[: size + 1] = -np.inf
    room.fresh[: size + 1 + sp.length.size] = -np.inf
    room.words[0, 0], room.scores[0, 0], room.states[0] = first, 0.0, 1
    room.free[0], room.favourite[0] = 0.0 if first == NEW else t.words[first, BACK], 0
    _along(text, trie.numbers, sp, room)
    _forward(size, trie.nodes, t, sp, room)
    j, k = size, _best_last(size, whole, t, room)
    settled, word = size if whole else 0, room.words[j, k]
    while j > 0:
        if whole or j <= size - SAFE_TAIL:
            if settled < j:
                settled, word = j, room.words[j, k]
            ends[j - 1] = True
        j, k = _before(j, k, trie.nodes, sp, room)
    return settled, word


@numba.njit(cache=True, nogil=True)
def _room(starts: Any, sp: Any) -> Any:
    size = 0
    for p in range(starts.size - 1):
        size = max(size, min(starts[p + 1] - starts[p], WINDOW))
    states = sp.max_length + 2
    return Room(
        np.empty((size + 1, states), np.int32),
        np.empty((size + 1, states)),
        np.empty((size + 1, states), np.int32),
        np.empty(size + 1, np.int64),
        np.empty(size + 1),
        np.empty(size + 1, np.int64),
        np.empty(size, np.int32),
        np.empty(size),
        np.empty(size),
        np.empty(size + 1 + sp.length.size),
        np.empty(states, np.int64),
        np.empty(states, np.int64),
        np.empty(states),
    )


@numba.njit(cache=True, nogil=True)
def best_cut(text: Any, starts: Any, trie: Any, tables: Any, spelling: Any) -> Any:
    """Word ends (characters,) bool of the most probable segmentation of every piece.

    A piece longer than a window is settled window by window, all but the last characters of each.
    """
    room = _room(starts, spelling)
    ends = np.zeros(text.size, np.bool_)
    mark = tables.end.size - 1
    for p in range(starts.size - 1):
        begin, word = starts[p], mark
        while begin < starts[p + 1]:
            end = min(begin + WINDOW, starts[p + 1])
            whole = end == starts[p + 1]
            settled, word = _window(
                text[begin:end], whole, word, trie, tables, spelling, room, ends[begin:end]
            )
            begin += settled
    return ends
