"""Greedy merging: the heap of pairs, kept right after every merge, and the merging itself."""

from __future__ import annotations

import numpy as np

from kexue_cli.tasks.minent.merge_gain import data_saving, net_saving
from kexue_cli.tasks.minent.merge_state import (
    HASH_BASE,
    HEAP,
    MERGES,
    NODES,
    NONE,
    PAIRS,
    SYMBOLS,
    State,
    count_double,
    find_pair,
    find_text,
    merge_everywhere,
    new_symbol,
)
from kexue_cli.tasks.minent.ngram_kernels import numba

DONE, PAUSED, FULL = range(3)


@numba.njit(cache=True)
def _before(s: State, one: int, other: int) -> bool:
    """Order of the heap: larger saving first, then the pair seen earlier."""
    if s.saving[one] != s.saving[other]:
        return s.saving[one] > s.saving[other]
    return one < other


@numba.njit(cache=True)
def _sift(s: State, place: int) -> None:
    """Move the pair at a place of the heap to where it belongs."""
    heap, size = s.heap, s.size[HEAP]
    pair = heap[place]
    while place > 0 and _before(s, pair, heap[(place - 1) // 2]):
        heap[place] = heap[(place - 1) // 2]
        s.heap_place[heap[place]] = place
        place = (place - 1) // 2
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _before(s, heap[child + 1], heap[child]):
            child += 1
        if not _before(s, heap[child], pair):
            break
        heap[place] = heap[child]
        s.heap_place[heap[place]] = place
        place = child
    heap[place] = pair
    s.heap_place[pair] = place


@numba.njit(cache=True)
def _remove(s: State, pair: int) -> None:
    place = s.heap_place[pair]
    s.heap_place[pair] = NONE
    s.size[HEAP] -= 1
    last = s.heap[s.size[HEAP]]
    if last != pair:
        s.heap[place] = last
        s.heap_place[last] = place
        _sift(s, place)


@numba.njit(cache=True)
def update(s: State, pair: int, end_mark: float) -> None:
    """Bring the pair's saving and its place in the heap up to date."""
    saving = net_saving(s, pair, end_mark)
    s.saving[pair] = saving
    if saving > 0:
        if s.heap_place[pair] < 0:
            s.heap[s.size[HEAP]] = pair
            s.heap_place[pair] = s.size[HEAP]
            s.size[HEAP] += 1
        _sift(s, s.heap_place[pair])
    elif s.heap_place[pair] >= 0:
        _remove(s, pair)


@numba.njit(cache=True)
def _touch_list(s: State, symbol: int, on_left: bool, end_mark: float) -> None:
    """Update the pairs that have the symbol on one side; those of count 0 leave the list."""
    links = s.next_left if on_left else s.next_right
    bit = np.uint8(1 if on_left else 2)
    pair = s.left_head[symbol] if on_left else s.right_head[symbol]
    kept = NONE
    while pair >= 0:
        after = links[pair]
        update(s, pair, end_mark)
        if s.pair_count[pair] == 0 and s.left[pair] != s.right[pair]:
            s.listed[pair] &= ~bit
        else:
            links[pair] = kept
            kept = pair
        pair = after
    if on_left:
        s.left_head[symbol] = kept
    else:
        s.right_head[symbol] = kept


@numba.njit(cache=True)
def touch(s: State, symbol: int, end_mark: float) -> None:
    """Update every pair whose saving depends on the symbol's count."""
    count_double(s, symbol)
    _touch_list(s, symbol, True, end_mark)
    _touch_list(s, symbol, False, end_mark)
    head = np.uint64(0)
    length = s.length[symbol]
    for k in range(1, length):
        head = head * HASH_BASE + np.uint64(s.characters[s.first[symbol] + k - 1] + 1)
        tail = s.hash[symbol] - head * s.powers[length - k]
        left, right = find_text(s, head, k), find_text(s, tail, length - k)
        pair = find_pair(s, left, right) if left >= 0 and right >= 0 else NONE
        if pair >= 0:
            s.target[pair] = symbol
            update(s, pair, end_mark)


@numba.njit(cache=True)
def fill_heap(s: State, end_mark: float) -> None:
    """Enter all pairs, their doubles counted."""
    for symbol in range(s.size[SYMBOLS]):
        count_double(s, symbol)
    for pair in range(s.size[PAIRS]):
        update(s, pair, end_mark)


@numba.njit(cache=True)
def best_pair(s: State, end_mark: float) -> int:
    """The pair that saves most, or -1. The savings in the heap may be too large, never too small:
    they fall as the number of tokens does, so the first that is still right is the best.
    """
    while s.size[HEAP] > 0:
        pair = s.heap[0]
        known = s.saving[pair]
        update(s, pair, end_mark)
        if s.heap_place[pair] == 0 and s.saving[pair] == known:
            return pair
    return NONE


@numba.njit(cache=True)
def merge_some(
    s: State, end_mark: float, until: int, joined: np.ndarray, savings: np.ndarray
) -> int:
    """Merge until so many merges were made in all, or none saves anything, or room runs out.

    joined (merges, 2) receives the pairs' symbols, savings (merges, 2) the nats: data, net.
    """
    while s.size[MERGES] < until:
        pair = best_pair(s, end_mark)
        if pair < 0:
            return DONE
        room = 2 * s.pair_count[pair] + 2
        short = s.size[PAIRS] + room > s.left.size or s.size[NODES] + room > s.node_place.size
        if short or s.size[SYMBOLS] + 1 > s.uses.size:
            return FULL
        a, b, symbol = s.left[pair], s.right[pair], s.target[pair]
        step = s.size[MERGES]
        savings[step, 0], savings[step, 1] = data_saving(s, pair), s.saving[pair]
        if symbol < 0:
            symbol = new_symbol(s, pair, end_mark)
        joined[step, 0], joined[step, 1] = a, b
        s.size[MERGES] += 1
        merge_everywhere(s, pair, symbol)
        touch(s, a, end_mark)
        touch(s, b, end_mark)
        touch(s, symbol, end_mark)
    return PAUSED
