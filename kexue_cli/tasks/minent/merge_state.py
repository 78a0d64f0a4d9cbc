"""The arrays of greedy merging and the compiled loops over them.

The text is a linked list of tokens; a token stands at the place of its first character. Each pair
of neighbouring symbols has an entry with its count, the places where it was seen (perhaps no longer
true: they are checked when used) and, while merging it would shorten the description, a place in a
heap by what it would save. Counts, not places, are always exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import numba

Ints = NDArray[np.int32]
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
NONE = -1
TOKENS, SYMBOLS, PAIRS, NODES, HEAP, MERGES = range(6)  # places in `size`
MIN_COUNT, MAX_LENGTH, WITH_LEXICON = range(3)  # places in `rule`


class State(NamedTuple):
    """Everything that merging changes.

    text     token (characters,) its symbol, or -1 inside a token; next, previous: -1 at piece ends
    symbols  uses in the text; first place and length of its text; hash of that; nats to spell it,
             end mark included; heads of the lists of pairs that have it left, right
    pairs    left, right symbol; count; head of its places; the symbol of the joined text, or -1;
             next pair with the same left, right symbol; whether it is in those two lists;
             nats it would save; place in the heap, or -1
    nodes    a place and the next node of the same pair
    slots    hash tables of pair and symbol numbers; powers (length,) of the hash base
    """

    token: Ints
    next: Ints
    previous: Ints
    uses: NDArray[np.int64]
    first: NDArray[np.int64]
    length: Ints
    hash: NDArray[np.uint64]
    spelling: NDArray[np.float64]
    left_head: Ints
    right_head: Ints
    left: Ints
    right: Ints
    pair_count: NDArray[np.int64]
    places: Ints
    target: Ints
    next_left: Ints
    next_right: Ints
    listed: NDArray[np.uint8]
    saving: NDArray[np.float64]
    heap_place: Ints
    node_place: Ints
    node_next: Ints
    heap: Ints
    pair_slots: Ints
    text_slots: Ints
    powers: NDArray[np.uint64]
    characters: Ints
    size: NDArray[np.int64]
    rule: NDArray[np.int64]


@numba.njit(cache=True)
def find_text(s: State, value: np.uint64, length: int) -> int:
    """The symbol with this text, or -1 - slot."""
    mask = s.text_slots.size - 1
    slot = np.int64((value >> np.uint64(11)) & np.uint64(mask))
    while s.text_slots[slot] >= 0:
        symbol = s.text_slots[slot]
        if s.hash[symbol] == value and s.length[symbol] == length:
            return symbol
        slot = (slot + 1) & mask
    return int(-1 - slot)


@numba.njit(cache=True)
def find_pair(s: State, a: int, b: int) -> int:
    """The pair's entry, or -1 - slot."""
    mask = s.pair_slots.size - 1
    value = (np.uint64(a) << np.uint64(32) | np.uint64(b)) * HASH_BASE
    slot = np.int64((value >> np.uint64(24)) & np.uint64(mask))
    while s.pair_slots[slot] >= 0:
        pair = s.pair_slots[slot]
        if s.left[pair] == a and s.right[pair] == b:
            return pair
        slot = (slot + 1) & mask
    return int(-1 - slot)


@numba.njit(cache=True)
def joined_hash(s: State, a: int, b: int) -> np.uint64:
    """Hash of the text of a followed by that of b."""
    return s.hash[a] * s.powers[s.length[b]] + s.hash[b]


@numba.njit(cache=True)
def add_place(s: State, place: int) -> None:
    """Note the pair that begins at a token; counts it, unless its symbols are equal."""
    a, b = s.token[place], s.token[s.next[place]]
    pair = find_pair(s, a, b)
    if pair < 0:
        slot, pair = -1 - pair, s.size[PAIRS]
        s.size[PAIRS] += 1
        s.pair_slots[slot] = pair
        s.left[pair], s.right[pair] = a, b
        s.pair_count[pair], s.places[pair] = 0, NONE
        s.listed[pair], s.heap_place[pair] = 0, NONE
        length = s.length[a] + s.length[b]
        symbol = find_text(s, joined_hash(s, a, b), length) if length < s.powers.size else NONE
        s.target[pair] = max(symbol, NONE)
    if not s.listed[pair] & 1:
        s.next_left[pair], s.left_head[a] = s.left_head[a], pair
    if not s.listed[pair] & 2:
        s.next_right[pair], s.right_head[b] = s.right_head[b], pair
    s.listed[pair] = 3
    node = s.size[NODES]
    s.size[NODES] += 1
    s.node_place[node], s.node_next[node] = place, s.places[pair]
    s.places[pair] = node
    s.pair_count[pair] += a != b


@numba.njit(cache=True)
def drop_place(s: State, a: int, b: int) -> None:
    """A pair of different symbols has lost a place."""
    if a != b:
        s.pair_count[find_pair(s, a, b)] -= 1


@numba.njit(cache=True)
def stands(s: State, pair: int, place: int) -> bool:
    """Whether the pair still begins at a place where it was seen."""
    after = s.next[place]
    return s.token[place] == s.left[pair] and after >= 0 and s.token[after] == s.right[pair]


@numba.njit(cache=True)
def begins_run(s: State, place: int) -> bool:
    """Whether no equal token precedes the one here."""
    before = s.previous[place]
    return before < 0 or s.token[before] != s.token[place]


@numba.njit(cache=True)
def count_double(s: State, symbol: int) -> None:
    """Count a symbol doubled, without overlaps: half the length of each run, rounded down."""
    pair = find_pair(s, symbol, symbol)
    if pair < 0:
        return
    total = 0
    node, kept = s.places[pair], NONE
    while node >= 0:
        place, after = s.node_place[node], s.node_next[node]
        if stands(s, pair, place):
            s.node_next[node], kept = kept, node
            if begins_run(s, place):
                run = 0
                while place >= 0 and s.token[place] == symbol:
                    run += 1
                    place = s.next[place]
                total += run // 2
        node = after
    s.places[pair] = kept
    s.pair_count[pair] = total


@numba.njit(cache=True)
def merge_at(s: State, place: int, symbol: int) -> None:
    """Join the token here with the next one."""
    after = s.next[place]
    a, b = s.token[place], s.token[after]
    before, behind = s.previous[place], s.next[after]
    if before >= 0:
        drop_place(s, s.token[before], a)
    if behind >= 0:
        drop_place(s, b, s.token[behind])
        s.previous[behind] = place
    s.token[place], s.token[after] = symbol, NONE
    s.next[place] = behind
    if before >= 0:
        add_place(s, before)
    if behind >= 0:
        add_place(s, place)


@numba.njit(cache=True)
def merge_everywhere(s: State, pair: int, symbol: int) -> int:
    """Join the pair wherever it stands, runs of equal tokens from the left; returns how often."""
    a, b = s.left[pair], s.right[pair]
    merged = 0
    node = s.places[pair]
    while node >= 0:
        place = s.node_place[node]
        if stands(s, pair, place) and (a != b or begins_run(s, place)):
            while place >= 0 and stands(s, pair, place):
                merge_at(s, place, symbol)
                merged += 1
                place = s.next[place] if a == b else NONE
        node = s.node_next[node]
    s.places[pair], s.pair_count[pair] = NONE, 0
    s.uses[symbol] += merged
    s.uses[a] -= merged
    s.uses[b] -= merged
    s.size[TOKENS] -= merged
    return merged


@numba.njit(cache=True)
def new_symbol(s: State, pair: int, end_mark: float) -> int:
    """A symbol for the joined text of a pair, which no symbol has yet."""
    a, b = s.left[pair], s.right[pair]
    symbol = s.size[SYMBOLS]
    s.size[SYMBOLS] += 1
    node = s.places[pair]
    while not stands(s, pair, s.node_place[node]):
        node = s.node_next[node]
    s.first[symbol] = s.node_place[node]
    s.length[symbol] = s.length[a] + s.length[b]
    s.hash[symbol] = joined_hash(s, a, b)
    s.spelling[symbol] = s.spelling[a] + s.spelling[b] - end_mark
    s.uses[symbol] = 0
    s.left_head[symbol] = s.right_head[symbol] = NONE
    slot = -1 - find_text(s, s.hash[symbol], s.length[symbol])
    s.text_slots[slot] = symbol
    return symbol


@numba.njit(cache=True)
def add_all_places(s: State) -> None:
    """Note the pairs of the whole text, from its end, so that places come in rising order."""
    for place in range(s.token.size - 1, -1, -1):
        if s.next[place] >= 0:
            add_place(s, place)


@numba.njit(cache=True)
def enter_texts(s: State) -> None:
    """Fill an empty table of the symbols' texts."""
    for symbol in range(s.size[SYMBOLS]):
        slot = -1 - find_text(s, s.hash[symbol], s.length[symbol])
        s.text_slots[slot] = symbol


@numba.njit(cache=True)
def enter_pairs(s: State) -> None:
    """Fill an empty table of pairs."""
    for pair in range(s.size[PAIRS]):
        slot = -1 - find_pair(s, s.left[pair], s.right[pair])
        s.pair_slots[slot] = pair
