"""Words as a double-array trie, compiled: the next node is one sum and one look in memory away."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require

numba: Any = require("numba", extra="minent")

HASH_FACTOR = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd
CODE_POINTS = 0x110000
FIRST, PARENT, WORD = range(3)  # fields of a node; the fourth fills a row of 16 bytes
NONE, FREE = -1, -2
ROOT = 0
CROWDED = 32  # places tried in vain after which a stretch of nodes counts as full


class Trie(NamedTuple):
    """The node after node p for character number n, if there is one, is p's FIRST + n.

    nodes    (nodes, 4) int32: FIRST (NONE: no longer word), PARENT (FREE: no node here), number of
             the WORD that ends here (NONE)
    numbers  (0x110000,) int32 of each code point: 0 for the most frequent one; those in no word
             share the largest
    """

    nodes: NDArray[np.int32]
    numbers: NDArray[np.int32]


@numba.njit(cache=True, nogil=True, inline="always")
def find_slot(keys: Any, key: Any) -> Any:
    """Slot of `key` or the free slot where it belongs; keys (power of two,), -1 is free."""
    slot = key * HASH_FACTOR
    slot = (slot ^ (slot >> np.int64(32))) & (keys.size - 1)
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & (keys.size - 1)
    return slot


@numba.njit(cache=True, nogil=True, inline="always")
def follow(nodes: Any, node: Any, number: Any) -> Any:
    """The node after `node` for a character number, or NONE."""
    after = np.int64(nodes[node, FIRST]) + number
    return after if nodes[after, PARENT] == node else np.int64(NONE)


@numba.njit(cache=True, nogil=True)
def _place(nodes: Any, start: Any, children: Any) -> Any:
    """The smallest FIRST, its first child at `start` or later, that finds all places free."""
    least = children[0]
    for number in children:
        least = min(least, number)
    first, tried = max(start - least, 0), 0
    while True:
        free = True
        for number in children:
            if nodes[first + number, PARENT] != FREE:
                free = False
                break
        if free:
            return first, tried
        first, tried = first + 1, tried + 1


@numba.njit(cache=True, nogil=True)
def _children(letters: Any, starts: Any, low: Any, high: Any, depth: Any, found: Any) -> Any:
    """Character numbers after `depth` letters in words low … high, and where each begins."""
    numbers, begins = found
    count = 0
    for w in range(low, high):
        if starts[w + 1] - starts[w] > depth:
            number = letters[starts[w] + depth]
            if count == 0 or numbers[count - 1] != number:
                numbers[count], begins[count] = number, w
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _with_room(nodes: Any, size: Any) -> Any:
    if size <= nodes.shape[0]:
        return nodes
    larger = np.full((2 * size, 4), NONE, np.int32)
    larger[:, PARENT] = FREE
    larger[: nodes.shape[0]] = nodes
    return larger


@numba.njit(cache=True, nogil=True)
def _build(letters: Any, starts: Any, words: Any, different: Any) -> Any:
    """Nodes of sorted words, breadth first.

    letters (characters,) numbers below `different`; starts (words + 1,); words (words,) numbers
    """
    nodes = _with_room(np.full((1, 4), NONE, np.int32), 2 * different + 16)
    queue = np.zeros((letters.size + 1, 4), np.int64)  # node, words from … to, depth
    queue[0, 2] = words.size
    found = np.empty(different, np.int64), np.empty(different + 1, np.int64)
    done, waiting = 0, int(words.size > 0)
    free, loose, top = 1, 1, 0  # the first free node; where whole families are worth a try
    while done < waiting:
        node, low, high, depth = queue[done]
        done += 1
        if starts[low + 1] - starts[low] == depth:
            nodes[node, WORD] = words[low]
        count = _children(letters, starts, low, high, depth, found)
        if count == 0:
            continue
        nodes = _with_room(nodes, top + 2 * different + 16)
        while nodes[free, PARENT] != FREE:
            free += 1
        loose = max(loose, free)
        first, tried = _place(nodes, free if count == 1 else loose, found[0][:count])
        if tried > CROWDED:
            loose += tried // 2
        nodes[node, FIRST] = first
        found[1][count] = high
        for k in range(count):
            after = first + found[0][k]
            nodes[after, PARENT] = node
            top = max(top, after)
            row = queue[waiting]
            row[0], row[1], row[2], row[3] = after, found[1][k], found[1][k + 1], depth + 1
            waiting += 1
    return nodes[: top + different + 1].copy()


def build_trie(words: list[str]) -> Trie:
    """The trie of distinct words, none empty."""
    order = sorted(range(len(words)), key=words.__getitem__)
    text = "".join(words[i] for i in order)
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    lengths = np.fromiter((len(words[i]) for i in order), np.int64, len(words))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    used, counts = np.unique(letters, return_counts=True)
    numbers = np.full(CODE_POINTS, len(used), np.int32)
    numbers[used[np.argsort(-counts, kind="stable")]] = np.arange(len(used), dtype=np.int32)
    nodes = _build(numbers[letters], starts, np.array(order, np.int64), len(used))
    return Trie(nodes, numbers)
