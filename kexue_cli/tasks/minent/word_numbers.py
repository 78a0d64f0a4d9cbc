"""A segmented text as numbers: of each token the place of its word in a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.ngram_kernels import numba
from kexue_cli.tasks.minent.piece_table import Pieces, add, extend_hash, find, new_table, with_room


def numbered_words(
    words: Sequence[str], symbols: NDArray[np.uint32], ends: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The place in `words` of each word of a text, (tokens,); len(words) of one not among them.

    symbols (characters,) are code points, ends (characters,) true where a word ends.
    """
    letters = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), "<u4")
    stops = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
    table = with_room(new_table(), max(len(words), len(letters)))
    _enter(table, letters.astype(np.uint32), stops)
    return np.asarray(_numbers(table, symbols, np.flatnonzero(ends) + 1))


@numba.njit(nogil=True, cache=True)
def _enter(table: Pieces, letters: NDArray[np.uint32], stops: NDArray[np.int64]) -> None:
    begin = 0
    for stop in stops:
        add(table, letters, begin, stop, 1)
        begin = stop


@numba.njit(nogil=True, cache=True)
def _numbers(
    table: Pieces, symbols: NDArray[np.uint32], stops: NDArray[np.int64]
) -> NDArray[np.int64]:
    numbers = np.empty(stops.size, np.int64)
    begin = 0
    for token in range(stops.size):
        value = np.uint64(0)
        for i in range(begin, stops[token]):
            value = extend_hash(value, symbols[i])
        entry = find(table, symbols, begin, stops[token], value)
        numbers[token] = entry if entry >= 0 else table.filled[0]
        begin = stops[token]
    return numbers
