"""What merging a pair saves: the post's exact gain, and the cost of a word in the lexicon."""

from __future__ import annotations

import math

from kexue_cli.tasks.minent.merge_state import (
    MAX_LENGTH,
    MIN_COUNT,
    TOKENS,
    WITH_LEXICON,
    State,
)
from kexue_cli.tasks.minent.ngram_kernels import numba


@numba.njit(cache=True, inline="always")
def xlnx(x: float) -> float:
    """The function x ln x, 0 at 0."""
    return x * math.log(x) if x > 0 else 0.0


@numba.njit(cache=True)
def data_saving(s: State, pair: int) -> float:
    """Nats by which the text's code shortens when the pair is merged: N * F_ab of eq. 2.11.

    The code length is f(N) - sum of f(N_w) with f(x) = x ln x. The joined text may be a word
    already; a pair of equal symbols takes two of them.
    """
    a, b = s.left[pair], s.right[pair]
    n, total = s.pair_count[pair], s.size[TOKENS]
    known = s.uses[s.target[pair]] if s.target[pair] >= 0 else 0
    change = xlnx(total) - xlnx(total - n) + xlnx(known + n) - xlnx(known)
    if a == b:
        return change - xlnx(s.uses[a]) + xlnx(s.uses[a] - 2 * n)
    change += xlnx(s.uses[a] - n) - xlnx(s.uses[a])
    return change + xlnx(s.uses[b] - n) - xlnx(s.uses[b])


@numba.njit(cache=True)
def lexicon_cost(s: State, pair: int, end_mark: float) -> float:
    """Nats by which the lexicon lengthens: a new word is spelled, words used up are dropped."""
    a, b, n = s.left[pair], s.right[pair], s.pair_count[pair]
    target = s.target[pair]
    cost = 0.0
    if target < 0 or s.uses[target] == 0:
        cost = s.spelling[a] + s.spelling[b] - end_mark
    if a == b:
        return cost - (s.spelling[a] if s.uses[a] == 2 * n else 0.0)
    cost -= s.spelling[a] if s.uses[a] == n else 0.0
    return cost - (s.spelling[b] if s.uses[b] == n else 0.0)


@numba.njit(cache=True)
def net_saving(s: State, pair: int, end_mark: float) -> float:
    """What the heap is ordered by; 0 for pairs that are too rare or too long."""
    length = s.length[s.left[pair]] + s.length[s.right[pair]]
    if s.pair_count[pair] < s.rule[MIN_COUNT] or length > s.rule[MAX_LENGTH]:
        return 0.0
    saving = data_saving(s, pair)
    return saving - lexicon_cost(s, pair, end_mark) if s.rule[WITH_LEXICON] else saving
