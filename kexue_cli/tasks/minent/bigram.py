"""Bayesian word model: blocked Gibbs sampling over word candidates, compiled.

A Pitman-Yor bigram whose back-off is a Pitman-Yor unigram whose base is a spelling model, in the
one-table-per-type approximation (Kneser-Ney counts):

    P(w | v) = (c(v,w) - d) / (c(v) + s)  +  (d t(v) + s) / (c(v) + s)  P(w)
    P(w)     = (t(w) - e) / (T + r)       +  (e W + r) / (T + r)        P_spelling(w)

c counts tokens, t(v) the types after v, t(w) the types before w, T all bigram types, W word types.
A word that is no candidate (a substring seen once) has no number; it still counts, as a type of
its own, wherever it stands.

With independent words only the second line stays, and t(w) counts tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.word_trie import find_slot, numba

NEGLIGIBLE = 1e-12  # share of a position's weight below which a last word is not followed up
NEVER_BEFORE = 1e-9  # unigram weight of a piece end when no other piece is known


class Bigrams(NamedTuple):
    """Counts; words are numbered, `len(after) - 1` is the mark at both ends of a piece.

    Of independent words only `before` (their tokens) and `totals` (tokens, W) are used.

    keys, values  (slots,) hash of c(v, w): v << 32 | w
    tokens        (words + 1,) c(v)
    after         (words + 1,) t(v)
    before        (words + 1,) t(w)
    totals        (2,) T and W
    """

    keys: NDArray[np.int64]
    values: NDArray[np.int32]
    tokens: NDArray[np.int32]
    after: NDArray[np.int32]
    before: NDArray[np.int32]
    totals: NDArray[np.int64]


class Spelled(NamedTuple):
    """Factors of P_spelling along a text: begin, step to the next character, end, length.

    head, step, tail (characters,); length (max_length + 1,)
    """

    head: NDArray[np.float64]
    step: NDArray[np.float64]
    tail: NDArray[np.float64]
    length: NDArray[np.float64]


class Settings(NamedTuple):
    """Discounts and strengths d, s, e, r; the weight of each word length (max_length + 1,).

    dependent  whether a word depends on the one before: the bigram; else words are independent
    """

    discount: float
    strength: float
    word_discount: float
    word_strength: float
    length_weight: NDArray[np.float64]
    dependent: bool


def empty_bigrams(words: int, room: int) -> Bigrams:
    """No counts yet, room for `room` different bigrams."""
    slots = 1 << int(np.ceil(np.log2(2 * room + 16)))
    return Bigrams(
        np.full(slots, -1, np.int64),
        np.zeros(slots, np.int32),
        np.zeros(words + 1, np.int32),
        np.zeros(words + 1, np.int32),
        np.zeros(words + 1, np.int32),
        np.zeros(2, np.int64),
    )


@numba.njit(cache=True, nogil=True)
def _count_base(w: Any, sign: int, b: Any) -> None:
    """Add or take away one word in the counts of P(w)."""
    b.totals[0] += sign
    if w < 0:
        b.totals[1] += sign
    else:
        b.before[w] += sign
        if b.before[w] == (1 if sign > 0 else 0):
            b.totals[1] += sign


@numba.njit(cache=True, nogil=True)
def _count_pair(v: Any, w: Any, sign: int, b: Any) -> None:
    """Add (sign 1) or take away (-1) one bigram; -1 stands for a word without a number."""
    changes = v < 0 or w < 0
    if not changes:
        key = np.int64(v) << np.int64(32) | np.int64(w)
        slot = find_slot(b.keys, key)
        b.keys[slot] = key
        b.values[slot] += sign
        changes = b.values[slot] == (1 if sign > 0 else 0)
    if v >= 0:
        b.tokens[v] += sign
        b.after[v] += sign if changes else 0
    if changes:
        _count_base(w, sign, b)


@numba.njit(cache=True, nogil=True)
def _count_piece(
    ids: Any, begin: Any, size: Any, ends: Any, sign: int, b: Any, dependent: bool
) -> None:
    v = b.tokens.size - 1
    first = begin
    for i in range(begin, begin + size):
        if ends[i]:
            w = -1 if i - first >= ids.shape[1] else ids[first, i - first]
            if dependent:
                _count_pair(v, w, sign, b)
            else:
                _count_base(w, sign, b)
            v, first = w, i + 1
    if dependent:
        _count_pair(v, b.tokens.size - 1, sign, b)


@numba.njit(cache=True, nogil=True)
def count_bigrams(ids: Any, starts: Any, ends: Any, b: Any, dependent: bool) -> None:
    """Add the words (or bigrams) of a segmentation (characters,) bool to the counts."""
    for p in range(starts.size - 1):
        _count_piece(ids, starts[p], starts[p + 1] - starts[p], ends, 1, b, dependent)


@numba.njit(cache=True, nogil=True, inline="always")
def _bigram_count(b: Any, v: Any, w: Any) -> Any:
    key = np.int64(v) << np.int64(32) | np.int64(w)
    slot = find_slot(b.keys, key)
    return b.values[slot] if b.keys[slot] == key else np.int32(0)


@numba.njit(cache=True, nogil=True)
def _forward(ids: Any, begin: Any, size: Any, b: Any, spelled: Any, s: Any, room: Any) -> float:
    """Summed weight of all ways to reach a position by a last word of length l.

    room: arrays for weight (size + 1, max_length + 1), back-off mass, 1 / scale, and the last
    words worth following up. Every position is scaled to 1. Returns the log of the total.
    """
    weight, mass, inverse, live, live_word, live_weight = room
    mark = b.tokens.size - 1
    spread = b.totals[0] + s.word_strength
    new_word = (s.word_discount * b.totals[1] + s.word_strength) / spread
    mass[0] = (s.discount * b.after[mark] + s.strength) / (b.tokens[mark] + s.strength)
    live[0] = 1
    live_word[0, 0] = mark
    live_weight[0, 0] = 1.0 / (b.tokens[mark] + s.strength)
    log_total = 0.0
    for j in range(1, size + 1):
        total, scale, spelling = 0.0, 1.0, spelled.tail[begin + j - 1]
        longest = min(ids.shape[1], j)
        for length in range(1, longest + 1):
            i = j - length
            if length > 1:
                spelling *= spelled.step[begin + i]
            w = ids[begin + i, length - 1]
            known = w >= 0 and b.before[w] > 0
            unigram = new_word * spelled.head[begin + i] * spelling * spelled.length[length]
            if known:
                unigram += (b.before[w] - s.word_discount) / spread
            value = mass[i] * unigram
            if known:
                for k in range(live[i]):
                    v = live_word[i, k]
                    count = _bigram_count(b, v, w)
                    if count > 0:
                        value += live_weight[i, k] * (count - s.discount)
            value *= scale * s.length_weight[length]
            weight[j, length] = value
            total += value
            scale *= inverse[i]
        inverse[j] = 1.0 / total
        log_total += np.log(total)
        _settle(ids, begin, j, longest, b, s, room)
    return log_total


@numba.njit(cache=True, nogil=True)
def _settle(ids: Any, begin: Any, j: Any, longest: Any, b: Any, s: Any, room: Any) -> None:
    """Scale the weights of position j to 1, note its back-off mass and its live last words."""
    weight, mass, inverse, live, live_word, live_weight = room
    mass[j], live[j] = 0.0, 0
    for length in range(1, longest + 1):
        weight[j, length] *= inverse[j]
        share = weight[j, length]
        v = ids[begin + j - length, length - 1]
        back = share
        if v >= 0 and b.tokens[v] > 0:
            back *= (s.discount * b.after[v] + s.strength) / (b.tokens[v] + s.strength)
            if share > NEGLIGIBLE:
                live_word[j, live[j]] = v
                live_weight[j, live[j]] = share / (b.tokens[v] + s.strength)
                live[j] += 1
        mass[j] += back


@numba.njit(cache=True, nogil=True)
def _unigram(ids: Any, i: Any, length: Any, b: Any, spelled: Any, s: Any) -> float:
    """P(w) of the word of `length` that begins at character i."""
    spread = b.totals[0] + s.word_strength
    value = (s.word_discount * b.totals[1] + s.word_strength) / spread
    value *= spelled.head[i] * spelled.tail[i + length - 1] * spelled.length[length]
    for k in range(i, i + length - 1):
        value *= spelled.step[k]
    w = ids[i, length - 1]
    if w >= 0 and b.before[w] > 0:
        value += (b.before[w] - s.word_discount) / spread
    return value


@numba.njit(cache=True, nogil=True)
def _sample_back(
    ids: Any, begin: Any, size: Any, b: Any, spelled: Any, s: Any, weight: Any, ends: Any
) -> None:
    """Write the word ends of a piece, sampled from its posterior, last word first."""
    share = np.empty(ids.shape[1] + 1)
    ends[begin : begin + size] = False
    mark = b.tokens.size - 1
    w = mark
    spread = b.totals[0] + s.word_strength
    unigram = max((b.before[mark] - s.word_discount) / spread, NEVER_BEFORE)
    j = size
    while j > 0:
        total = 0.0
        longest = min(ids.shape[1], j)
        for length in range(1, longest + 1):
            v = ids[begin + j - length, length - 1]
            value = unigram
            if v >= 0 and b.tokens[v] > 0:
                count = _bigram_count(b, v, w) if w >= 0 else 0
                value = (s.discount * b.after[v] + s.strength) * unigram
                value = (value + max(count - s.discount, 0.0)) / (b.tokens[v] + s.strength)
            share[length] = weight[j, length] * value
            total += share[length]
        left = np.random.random() * total
        chosen = 1
        while chosen < longest and left >= share[chosen]:
            left -= share[chosen]
            chosen += 1
        ends[begin + j - 1] = True
        j -= chosen
        w = ids[begin + j, chosen - 1]
        unigram = _unigram(ids, begin + j, chosen, b, spelled, s)


@numba.njit(cache=True, nogil=True)
def _room(starts: Any, max_length: int) -> Any:
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    return (
        np.empty((longest + 1, max_length + 1)),
        np.empty(longest + 1),
        np.ones(longest + 1),
        np.zeros(longest + 1, np.int32),
        np.empty((longest + 1, max_length), np.int32),
        np.empty((longest + 1, max_length)),
    )


@numba.njit(cache=True, nogil=True)
def sample_sweep(
    order: Any, ids: Any, starts: Any, ends: Any, b: Any, spelled: Any, s: Any, seed: int
) -> float:
    """Sample every piece anew given all others, in the given order; changes `ends` and the counts.

    Returns the summed log weight of the pieces, each given the others.
    """
    np.random.seed(seed)
    room = _room(starts, ids.shape[1])
    total = 0.0
    for p in order:
        begin, size = starts[p], starts[p + 1] - starts[p]
        _count_piece(ids, begin, size, ends, -1, b, s.dependent)
        total += _forward(ids, begin, size, b, spelled, s, room)
        _sample_back(ids, begin, size, b, spelled, s, room[0], ends)
        _count_piece(ids, begin, size, ends, 1, b, s.dependent)
    return total
