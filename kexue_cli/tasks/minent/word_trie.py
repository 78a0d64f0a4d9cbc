"""Words as a hashed trie, compiled: what is needed of a node lies in one place of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require

numba: Any = require("numba", extra="minent")

HASH_FACTOR = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd
CODE_BITS = 21  # of a Unicode code point
PARENT, CODE, WORD, LONGER = range(4)  # fields of a node
FREE, ROOT = -1, -2  # parents: of a free place, of a word's first character


@numba.njit(cache=True, nogil=True, inline="always")
def find_slot(keys: Any, key: Any) -> Any:
    """Slot of `key` or the free slot where it belongs; keys (power of two,), -1 is free."""
    slot = key * HASH_FACTOR
    slot = (slot ^ (slot >> np.int64(32))) & (keys.size - 1)
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & (keys.size - 1)
    return slot


@numba.njit(cache=True, nogil=True, inline="always")
def find_node(trie: Any, parent: Any, code: Any) -> Any:
    """Node of the character `code` after the node `parent`, or the free one where it belongs."""
    slot = (np.int64(parent) << np.int64(CODE_BITS) | np.int64(code)) * HASH_FACTOR
    slot = (slot ^ (slot >> np.int64(32))) & (trie.shape[0] - 1)
    while trie[slot, PARENT] != FREE and (
        trie[slot, PARENT] != parent or trie[slot, CODE] != np.int32(code)
    ):
        slot = (slot + 1) & (trie.shape[0] - 1)
    return slot


@numba.njit(cache=True, nogil=True)
def _grow(letters: Any, starts: Any, trie: Any) -> int:
    """Put words into an empty trie; returns the number of its nodes."""
    count = 0
    for w in range(starts.size - 1):
        node = np.int64(ROOT)
        for i in range(starts[w], starts[w + 1]):
            if node != ROOT:
                trie[node, LONGER] = 1
            before, node = node, find_node(trie, node, letters[i])
            if trie[node, PARENT] == FREE:
                trie[node, PARENT], trie[node, CODE] = before, letters[i]
                count += 1
        trie[node, WORD] = w
    return count


def _empty(nodes: int) -> NDArray[np.int32]:
    trie = np.zeros((1 << int(np.ceil(np.log2(2 * nodes + 16))), 4), np.int32)
    trie[:, PARENT] = FREE
    trie[:, WORD] = -1
    return trie


def build_trie(words: list[str]) -> NDArray[np.int32]:
    """The trie of distinct words, none empty: nodes (slots, 4) at their places in a hash table.

    A node is its parent's place, its code point, the number of the word that ends here (-1: none)
    and whether a longer word goes on.
    """
    letters = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), "<u4")
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    trie = _empty(len(letters))
    nodes = int(_grow(letters, starts, trie))
    if len(_empty(nodes)) < len(trie):  # shared beginnings: a smaller table stays in the cache
        trie = _empty(nodes)
        _grow(letters, starts, trie)
    return trie
