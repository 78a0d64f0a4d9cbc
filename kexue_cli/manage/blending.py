"""Blending of class probabilities: averages, weights fitted on validation rows, scores.

All arrays of probabilities are (member, row, class); nothing here knows about files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
TINY = 1e-12
EM_STEPS = 500
TOLERANCE = 1e-10


def mean(p: Probabilities, weights: Probabilities) -> Probabilities:
    """Arithmetic mean Σ w_m p_m; p is (member, row, class), the result (row, class)."""
    return np.einsum("m,mrc->rc", weights, p)


def geometric(p: Probabilities, weights: Probabilities) -> Probabilities:
    """Geometric mean Π p_m^w_m, each row summing to 1 again."""
    logarithm = np.einsum("m,mrc->rc", weights, np.log(np.maximum(p, TINY)))
    blended = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return np.asarray(blended / blended.sum(axis=1, keepdims=True))


def rank(p: Probabilities, weights: Probabilities) -> Probabilities:
    """Mean of each class's ranks over the rows: only the order of a member's scores counts.

    Ranks of equal scores are averaged; the result is scaled to rows that sum to 1.
    """
    ranks = np.apply_along_axis(average_ranks, 1, p) / p.shape[1]
    blended = mean(ranks, weights)
    return np.asarray(blended / blended.sum(axis=1, keepdims=True))


METHODS: dict[str, Callable[[Probabilities, Probabilities], Probabilities]] = {
    "mean": mean,
    "geometric": geometric,
    "rank": rank,
}


def average_ranks(values: Probabilities) -> Probabilities:
    """Ranks from 1, equal values sharing the mean of theirs; values is (row,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = last - (counts - 1) / 2
    return np.asarray(middle[inverse])


def fit_weights(p: Probabilities, target: NDArray[np.int64]) -> Probabilities:
    """Weights of the arithmetic mean with the greatest likelihood of the targets.

    The likelihood is that of a mixture with fixed components: concave in the weights, and EM climbs
    it without a step size. p is (member, row, class), target (row,).
    """
    chosen = np.maximum(p[:, np.arange(len(target)), target], TINY)  # (member, row)
    weights = np.full(len(p), 1 / len(p))
    for _ in range(EM_STEPS):
        joint = weights[:, None] * chosen
        new = (joint / joint.sum(axis=0)).mean(axis=1)
        if np.abs(new - weights).max() < TOLERANCE:
            return np.asarray(new)
        weights = new
    return weights


def cross_fitted(p: Probabilities, target: NDArray[np.int64], folds: int = 5) -> Probabilities:
    """Blend every validation row with weights fitted on the other folds' rows.

    A score of this is not flattered by fitting and scoring on the same rows.
    """
    fold_of_row = np.random.default_rng(0).permutation(len(target)) % folds
    blended = np.empty(p.shape[1:])
    for fold in range(folds):
        inside = fold_of_row == fold
        weights = fit_weights(p[:, ~inside], target[~inside])
        blended[inside] = mean(p[:, inside], weights)
    return blended


def scores(p: Probabilities, target: NDArray[np.int64]) -> dict[str, float]:
    """macro_f1 over the classes that occur, accuracy, log_loss; p is (row, class)."""
    predicted = p.argmax(axis=1)
    classes = np.union1d(predicted, target)
    f1 = []
    for k in classes:
        hits = np.sum((predicted == k) & (target == k))
        f1.append(2 * hits / (np.sum(predicted == k) + np.sum(target == k)))
    rows = np.arange(len(target))
    normalised = p / p.sum(axis=1, keepdims=True)
    return {
        "macro_f1": float(np.mean(f1)),
        "accuracy": float(np.mean(predicted == target)),
        "log_loss": float(-np.log(np.maximum(normalised[rows, target], TINY)).mean()),
    }
