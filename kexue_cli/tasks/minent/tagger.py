"""A tagger of word ends that learns from the committee's cuts: a second opinion on each of them.

Whether a word ends at a gap is a logistic regression on the characters around it: one by one and
in pairs. It knows no words, so it smooths: what the samplers mostly do with such neighbours it does
everywhere. It learns from the cuts themselves, not from the share of the votes: certainty is what
a vote of similar samplers has too much of.

Fitted to all of a text it would only repeat the mistakes it was shown. So it is cross-fitted: the
text is dealt out in blocks to `FOLDS` folds, and the gaps of each are judged by a tagger that has
seen the others alone. Blocks are long, for a mistake is repeated within a document. The judgement
is added to the vote, both as log-odds, and the tagger is learned once more from the cuts mended so
far.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent.lattice import HASH_FACTOR, Lattice
from kexue_cli.tasks.minent.word_trie import numba

FOLDS = 4
BLOCKS = 100  # of characters, that are dealt out to the folds in turn
ROUNDS = 2
EPOCHS = 2
RATE = 0.2  # of AdaGrad
RIDGE = 1e-2  # pulls the weights of the characters just seen to 0
SUREST = 0.98  # share of the votes above which, or below one minus which, they count no more
MOST_SLOTS = 1 << 22  # of the hash table of weights

REACH = 3  # characters on each side that a feature may look at
PAIRS = np.array(
    [
        (-2, -2), (-1, -1), (0, 0), (1, 1), (2, 2), (3, 3),
        (-2, -1), (-1, 0), (0, 1), (1, 2), (2, 3), (-1, 1), (0, 2),
    ],
    np.int64,
)  # fmt: skip
"""Features: characters by their place, 0 before the gap and 1 after it; twice the same is one."""


class Gaps(NamedTuple):
    """The gaps between two characters of one piece, and what stands around them.

    symbols     numbered from 1 on, with REACH marks, 0, before and after every piece
    places      (gaps,) where in `symbols` the character before the gap is
    characters  (gaps,) where in the text it is
    size        of the alphabet, the mark included
    """

    symbols: NDArray[np.int32]
    places: NDArray[np.int64]
    characters: NDArray[np.int64]
    size: int

    def folds(self) -> NDArray[np.int64]:
        """The fold of every gap, (gaps,)."""
        block = self.characters * BLOCKS // (int(self.characters[-1]) + 1)
        return np.asarray(block % FOLDS)


def gaps_of(lattice: Lattice) -> Gaps:
    """All gaps inside the pieces of a text."""
    size, pieces = len(lattice.symbols), len(lattice.starts) - 1
    piece = np.repeat(np.arange(pieces), np.diff(lattice.starts))
    places = np.arange(size) + REACH * (piece + 1)
    symbols = np.zeros(size + REACH * (pieces + 1), np.int32)
    symbols[places] = lattice.symbols + 1
    inner = np.ones(size, np.bool_)
    inner[lattice.starts[1:] - 1] = False
    return Gaps(symbols, places[inner], np.flatnonzero(inner), len(lattice.alphabet) + 1)


@numba.njit(cache=True, nogil=True, inline="always")
def _find(symbols: Any, place: Any, size: Any, mask: Any, slots: Any) -> None:
    """Write the hashed slots of a gap's features."""
    for k in range(PAIRS.shape[0]):
        first = np.int64(symbols[place + PAIRS[k, 0]])
        second = np.int64(symbols[place + PAIRS[k, 1]])
        slot = ((first * size + second) * PAIRS.shape[0] + k) * HASH_FACTOR
        slots[k] = (slot ^ (slot >> np.int64(29))) & mask


@numba.njit(cache=True, nogil=True)
def learn(gaps: Any, wanted: Any, order: Any, table: Any, bias: Any) -> None:
    """One epoch of AdaGrad over the gaps in `order`; wanted (gaps,) bool.

    table (slots, 2) and bias (2,): a weight and its sum of squared gradients; changed in place.
    """
    slots = np.empty(PAIRS.shape[0], np.int64)
    mask = table.shape[0] - 1
    for g in order:
        _find(gaps.symbols, gaps.places[g], gaps.size, mask, slots)
        total = bias[0]
        for slot in slots:
            total += table[slot, 0]
        error = 1.0 / (1.0 + np.exp(-total)) - wanted[g]
        for slot in slots:
            gradient = error + RIDGE * table[slot, 0]
            table[slot, 1] += gradient * gradient
            table[slot, 0] -= RATE * gradient / np.sqrt(table[slot, 1])
        bias[1] += error * error
        bias[0] -= RATE * error / np.sqrt(bias[1])


@numba.njit(cache=True, nogil=True)
def judge(gaps: Any, which: Any, table: Any, bias: Any, found: Any) -> None:
    """Write the log-odds of a cut at the gaps `which` to `found` (gaps,)."""
    slots = np.empty(PAIRS.shape[0], np.int64)
    for g in which:
        _find(gaps.symbols, gaps.places[g], gaps.size, table.shape[0] - 1, slots)
        total = bias[0]
        for slot in slots:
            total += table[slot, 0]
        found[g] = total


def cross_fitted(
    gaps: Gaps, wanted: NDArray[np.bool_], seed: int, check: Callable[[], None]
) -> NDArray[np.float64]:
    """Log-odds of a cut at every gap, (gaps,), by taggers that have not seen its block.

    check  is called now and then; it may raise to stop
    """
    folds, found = gaps.folds(), np.zeros(len(wanted))
    slots = min(MOST_SLOTS, 1 << int(np.ceil(np.log2(8 * len(wanted) + 16))))

    def fold(k: int) -> None:
        table, bias = np.zeros((slots, 2), np.float32), np.array([0.0, 1.0])
        table[:, 1] = 1.0
        seen, rng = np.flatnonzero(folds != k), np.random.default_rng([seed, k])
        for _ in range(EPOCHS):
            check()
            learn(gaps, wanted, rng.permutation(seen), table, bias)
        judge(gaps, np.flatnonzero(folds == k), table, bias, found)

    with ThreadPoolExecutor(min(FOLDS, available_cores())) as pool:
        list(pool.map(fold, range(FOLDS)))
    return found


def second_opinion(
    lattice: Lattice,
    share: NDArray[np.float64],
    weight: float,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Log-odds of a cut after every character: those of the votes' share, and the tagger's.

    share  (characters,) of the samples that have a cut there
    weight of the tagger's log-odds; those of the votes count once
    """
    kept = np.clip(share, 1 - SUREST, SUREST)
    odds = np.log(kept / (1 - kept))
    gaps = gaps_of(lattice)
    if not len(gaps.places):
        return odds
    votes = odds[gaps.characters]
    for k in range(ROUNDS):
        wanted = odds[gaps.characters] > 0
        odds[gaps.characters] = votes + weight * cross_fitted(gaps, wanted, seed + k, check)
    return odds
