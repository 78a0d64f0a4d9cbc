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
BLOCK = 500  # characters of a long piece that are sampled together, given the rest of it


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
def _word(ids: Any, first: Any, length: Any) -> Any:
    """Its number, -1 if it has none."""
    return ids[first, length - 1] if length <= ids.shape[1] else -1


@numba.njit(cache=True, nogil=True)
def _count_piece(
    ids: Any,
    begin: Any,
    size: Any,
    before: Any,
    behind: Any,
    ends: Any,
    sign: int,
    b: Any,
    dependent: bool,
) -> None:
    """Count the words from `begin` on, between the words (or marks) before and behind them."""
    v = before
    first = begin
    for i in range(begin, begin + size):
        if ends[i]:
            w = _word(ids, first, i - first + 1)
            if dependent:
                _count_pair(v, w, sign, b)
            else:
                _count_base(w, sign, b)
            v, first = w, i + 1
    if dependent:
        _count_pair(v, behind, sign, b)


@numba.njit(cache=True, nogil=True)
def count_bigrams(ids: Any, starts: Any, ends: Any, b: Any, dependent: bool) -> None:
    """Add the words (or bigrams) of a segmentation (characters,) bool to the counts."""
    mark = b.tokens.size - 1
    for p in range(starts.size - 1):
        size = starts[p + 1] - starts[p]
        _count_piece(ids, starts[p], size, mark, mark, ends, 1, b, dependent)


@numba.njit(cache=True, nogil=True, inline="always")
def _bigram_count(b: Any, v: Any, w: Any) -> Any:
    key = np.int64(v) << np.int64(32) | np.int64(w)
    slot = find_slot(b.keys, key)
    return b.values[slot] if b.keys[slot] == key else np.int32(0)


@numba.njit(cache=True, nogil=True)
def _forward(
    ids: Any, begin: Any, size: Any, before: Any, b: Any, spelled: Any, s: Any, room: Any
) -> float:
    """Summed weight of all ways to reach a position by a last word of length l.

    before: the word (or mark) in front, -1 if it has no number.
    room: arrays for weight (size + 1, max_length + 1), back-off mass, 1 / scale, and the last
    words worth following up. Every position is scaled to 1. Returns the log of the total.
    """
    weight, mass, inverse, live, live_word, live_weight = room
    spread = b.totals[0] + s.word_strength
    new_word = (s.word_discount * b.totals[1] + s.word_strength) / spread
    mass[0], live[0] = 1.0, 0
    if before >= 0:
        mass[0] = (s.discount * b.after[before] + s.strength) / (b.tokens[before] + s.strength)
        live[0] = 1
        live_word[0, 0] = before
        live_weight[0, 0] = 1.0 / (b.tokens[before] + s.strength)
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
def _chance_behind(
    ids: Any, at: Any, length: Any, behind: Any, b: Any, spelled: Any, s: Any
) -> float:
    """P(w) of what is behind: the word of `length` that begins at `at`, or the mark."""
    if length > 0:
        return _unigram(ids, at, min(length, ids.shape[1]), b, spelled, s)
    spread = b.totals[0] + s.word_strength
    return max((b.before[behind] - s.word_discount) / spread, NEVER_BEFORE)


@numba.njit(cache=True, nogil=True)
def _sample_back(
    ids: Any,
    begin: Any,
    size: Any,
    behind: Any,
    chance: float,
    b: Any,
    spelled: Any,
    s: Any,
    weight: Any,
    ends: Any,
) -> None:
    """Write the word ends, sampled from their posterior, last word first.

    behind, chance: the word (or mark) behind them, and its P(w).
    """
    share = np.empty(ids.shape[1] + 1)
    ends[begin : begin + size] = False
    w, unigram = behind, chance
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
    longest = min(longest, 2 * BLOCK + max_length)
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

    Of a piece longer than two blocks one block after the other, from a word end to another: were
    all of it taken out, and it is much of the text, nothing would be known of its words.
    Returns the summed log weight of what is sampled together, each given the rest.
    """
    np.random.seed(seed)
    room = _room(starts, ids.shape[1])
    total = 0.0
    mark = b.tokens.size - 1
    for p in order:
        at, end = starts[p], starts[p + 1]
        before, target = mark, BLOCK
        if end - at > 2 * BLOCK:  # other blocks in every sweep
            target = 1 + int(np.random.random() * BLOCK)
        while at < end:
            stop = end if end - at <= 2 * BLOCK else _word_end(ends, at + target)
            length = 0 if stop == end else _word_end(ends, stop + 1) - stop
            behind = mark if stop == end else _word(ids, stop, length)
            total += _sample(ids, at, stop, before, behind, length, ends, b, spelled, s, room)
            before, at, target = _last_word(ids, ends, at, stop), stop, BLOCK
    return total


@numba.njit(cache=True, nogil=True)
def _word_end(ends: Any, at: Any) -> Any:
    """The first place from `at` on with a word end before it."""
    while not ends[at - 1]:
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _last_word(ids: Any, ends: Any, begin: Any, end: Any) -> Any:
    """Number of the last word of a segmented stretch."""
    first = end - 1
    while first > begin and not ends[first - 1]:
        first -= 1
    return _word(ids, first, end - first)


@numba.njit(cache=True, nogil=True)
def _sample(
    ids: Any,
    begin: Any,
    end: Any,
    before: Any,
    behind: Any,
    length: Any,
    ends: Any,
    b: Any,
    spelled: Any,
    s: Any,
    room: Any,
) -> float:
    """Sample a stretch anew between two words (or marks), given all else.

    length: of the word behind it, in characters; 0 for the mark. Returns the log weight.
    """
    size = end - begin
    _count_piece(ids, begin, size, before, behind, ends, -1, b, s.dependent)
    total = _forward(ids, begin, size, before, b, spelled, s, room)
    chance = _chance_behind(ids, end, length, behind, b, spelled, s)
    _sample_back(ids, begin, size, behind, chance, b, spelled, s, room[0], ends)
    _count_piece(ids, begin, size, before, behind, ends, 1, b, s.dependent)
    return total
