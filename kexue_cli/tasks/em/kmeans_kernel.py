"""Lloyd's assignment and centre sums in one pass over a slab of rows, compiled by numba.

A row is compared with all centres only if its own centre is not certainly the nearest: it is where
the distance to it is below half the distance to the next centre, or below a lower bound of the
distance to any other centre that earlier passes left behind (Hamerly, "Making k-means even faster",
2010). The rows that remain go through one matrix product per block.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numba
import numpy as np

BLOCK = 512  # rows whose scores stay in cache
ROUNDING = 4e-6  # relative slack of float32 distances that come from a product
_FAST = {"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _best_two(scores, half, top, second):
    """top, second: the two largest of score_k - half_k in every column of scores (K, BLOCK)."""
    top[:] = -np.inf
    second[:] = -np.inf
    for k in range(scores.shape[0]):
        score = scores[k]
        for b in range(score.shape[0]):
            value = score[b] - half[k]
            score[b] = value
            lower = value if value < top[b] else top[b]
            second[b] = lower if lower > second[b] else second[b]
            top[b] = value if value > top[b] else top[b]


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _add(sums, row, sign):
    for j in range(row.shape[0]):
        sums[j] += sign * row[j]


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _centred(x, shift, out):
    """Set out = x - shift; the squared norm."""
    square = out[0] * 0
    for j in range(x.shape[0]):
        value = x[j] - shift[j]
        out[j] = value
        square += value * value
    return square


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _squared_distance(x, shift, centre):
    total = centre[0] * 0
    for j in range(centre.shape[0]):
        value = x[j] - shift[j] - centre[j]
        total += value * value
    return total


@numba.njit(nogil=True, cache=True)
def _certain(x, shift, centres, safe, label, bound):
    """The squared distance to the own centre if no other can be nearer, else -1."""
    distance = _squared_distance(x, shift, centres[label])
    reach = max(safe[label], bound) * (1 - ROUNDING)
    return distance if reach > 0 and distance < reach * reach else -1.0


@numba.njit(nogil=True, cache=True)
def _resolve(
    y, square, number, waiting, centres, half, scores, top, second, labels, bound, drift, fresh
):
    """Compare the waiting rows with all centres: label, bound and squared distance of each."""
    np.dot(centres, y.T, scores)
    _best_two(scores, half, top, second)
    slack = ROUNDING * half.max() * 2
    for b in range(waiting):
        new = labels[number[b]]
        if scores[new, b] < top[b]:
            new = 0
            while scores[new, b] < top[b]:
                new += 1
        fresh[b] = new
        other = square[b] * (1 - ROUNDING) - 2 * second[b] - slack
        bound[number[b]] = math.sqrt(max(other, 0.0)) + drift
        square[b] = max(square[b] - 2 * top[b], 0.0)


@numba.njit(nogil=True, cache=True)
def _settle(y, square, number, waiting, fresh, weight, labels, afresh, sums, count):
    """Note the new labels of compared rows, and what they change in the sums of the clusters.

    Returns:
        Rows that moved, and the weighted sum of squared distances.
    """
    moved, inertia = 0, 0.0
    for b in range(waiting):
        place, new = number[b], fresh[b]
        old = labels[place]
        amount = weight[place] if weight.shape[0] else 1.0
        inertia += amount * square[b]
        moved += new != old
        labels[place] = new
        if afresh or new != old:
            count[new] += amount
            _add(sums[new], y[b], amount)
        if not afresh and new != old:
            count[old] -= amount
            _add(sums[old], y[b], -amount)
    return moved, inertia


@numba.njit(nogil=True, cache=True)
def assign(x, shift, centres, half, safe, weight, labels, afresh, prune, bound, drift, sums, count):
    """Move each row to its nearest centre.

    Args:
        x: (n, d); shift: (d,), in the type of `centres`.
        centres: (K, d), float32 or float64; half: (K,), |c|^2 / 2; safe: (K,), half the distance
            to the next centre.
        weight: (n,) or empty.
        labels: (n,) int32, overwritten.
        afresh: `sums` and `count` become sums over all rows, else changes by the rows that moved.
        prune: use labels and bounds of earlier passes.
        bound: (n,) lower bounds of the distance to any other centre, plus `drift` at their time.
        drift: sum over passes of the largest movement of a centre.
        sums: (K, d) float64; count: (K,) float64.

    Returns:
        Rows that moved, rows that had to be compared with all centres, and the sum of squared
        distances to the nearest centre.
    """
    n, d = x.shape
    kind = centres.dtype
    y, square = np.zeros((BLOCK, d), dtype=kind), np.zeros(BLOCK, dtype=np.float64)
    number, fresh = np.zeros(BLOCK, dtype=np.int64), np.zeros(BLOCK, dtype=np.int64)
    scores = np.empty((centres.shape[0], BLOCK), dtype=kind)
    top, second = np.empty(BLOCK, dtype=kind), np.empty(BLOCK, dtype=kind)
    moved, compared, waiting, inertia = 0, 0, 0, 0.0
    for row in range(n):
        distance = -1.0  # to the own centre, where that is certainly the nearest
        if prune:
            distance = _certain(x[row], shift, centres, safe, labels[row], bound[row] - drift)
        if distance < 0 or afresh:
            square[waiting] = _centred(x[row], shift, y[waiting])
        if distance >= 0:
            amount = weight[row] if weight.shape[0] else 1.0
            inertia += amount * distance
            if afresh:
                count[labels[row]] += amount
                _add(sums[labels[row]], y[waiting], amount)
        else:
            number[waiting] = row
            waiting += 1
        if waiting == BLOCK or (row == n - 1 and waiting):
            _resolve(
                y, square, number, waiting, centres, half, scores, top, second, labels, bound,
                drift, fresh,
            )  # fmt: skip
            gone, far = _settle(
                y, square, number, waiting, fresh, weight, labels, afresh, sums, count
            )
            moved, inertia, compared, waiting = moved + gone, inertia + far, compared + waiting, 0
    return moved, compared, inertia
