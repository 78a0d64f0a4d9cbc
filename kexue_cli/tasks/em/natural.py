"""Mixtures of exponential families: natural parameters, sums, the post's two terms.

Every mixture of this task is, for a row y and component k,

    log p(k, y) = constant_k + linear_k . y + <quadratic_k, T(y)>

where T(y) is nothing, |y|^2, y^2 by column, or y y^T: the shape of `quadratic` says which. One
E-step turns natural parameters into sums of the same shapes; one M-step turns sums into parameters.
R restarts are fitted at once: every array leads with (restart, component).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Parameters = dict[str, np.ndarray]  # name -> (restart, ...), see each family
MeanRow = Callable[[], np.ndarray]  # mean of all rows (d,), computed only where it is wanted


@dataclass
class Natural:
    """Natural parameters of R restarts of K components in d columns.

    Attributes:
        constant: (R, K), includes the log weight.
        linear: (R, K, d).
        quadratic: None, (R, K) for |y|^2, (R, K, d) for y^2, or symmetric (R, K, d, d) for y y^T.
        offset: (R,), what all components share: the total over rows of a term left out because
            responsibilities do not need it.
    """

    constant: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray | None
    offset: np.ndarray

    def take(self, restarts: np.ndarray) -> Natural:
        """Only these restarts."""
        quadratic = None if self.quadratic is None else self.quadratic[restarts]
        return Natural(
            self.constant[restarts], self.linear[restarts], quadratic, self.offset[restarts]
        )

    def scaled(self, inverse_temperature: float) -> Natural:
        """Log joint times `inverse_temperature`, for annealed responsibilities."""
        quadratic = None if self.quadratic is None else self.quadratic * inverse_temperature
        return Natural(
            self.constant * inverse_temperature,
            self.linear * inverse_temperature,
            quadratic,
            self.offset,
        )


@dataclass
class Statistics:
    """Sums over rows, weighted by responsibility (and row weight).

    Attributes:
        count: (R, K), sum of responsibilities.
        first: (R, K, d), sum of responsibility times y.
        second: shaped as `Natural.quadratic`.
        log_likelihood: (R,), sum of log p(y), nats, without `Natural.offset`.
        entropy: (R,), sum of the entropies of the responsibilities, nats.
    """

    count: np.ndarray
    first: np.ndarray
    second: np.ndarray | None
    log_likelihood: np.ndarray
    entropy: np.ndarray

    def __add__(self, other: Statistics) -> Statistics:
        return self._with(other, 1.0)

    def __sub__(self, other: Statistics) -> Statistics:
        return self._with(other, -1.0)

    def _with(self, other: Statistics, sign: float) -> Statistics:
        second: np.ndarray | None = None
        if self.second is not None and other.second is not None:
            second = self.second + sign * other.second
        return Statistics(
            self.count + sign * other.count,
            self.first + sign * other.first,
            second,
            self.log_likelihood + sign * other.log_likelihood,
            self.entropy + sign * other.entropy,
        )

    def take(self, restarts: np.ndarray) -> Statistics:
        """Only these restarts."""
        second = None if self.second is None else self.second[restarts]
        return Statistics(
            self.count[restarts],
            self.first[restarts],
            second,
            self.log_likelihood[restarts],
            self.entropy[restarts],
        )


def zeros_like(natural: Natural) -> Statistics:
    """Sums over no rows."""
    restarts = len(natural.constant)
    return Statistics(
        np.zeros_like(natural.constant),
        np.zeros_like(natural.linear),
        None if natural.quadratic is None else np.zeros_like(natural.quadratic),
        np.zeros(restarts),
        np.zeros(restarts),
    )


def expected_log_joint(natural: Natural, sums: Statistics) -> np.ndarray:
    """Q: sum over rows and components of responsibility times log p(k, y); (R,), nats."""
    total = np.sum(natural.constant * sums.count, axis=1) + natural.offset
    total = total + np.sum(natural.linear * sums.first, axis=(1, 2))
    if natural.quadratic is not None and sums.second is not None:
        product = natural.quadratic * sums.second
        total = total + product.reshape(len(product), -1).sum(axis=1)
    return total


def joint_divergence(natural: Natural, sums: Statistics) -> np.ndarray:
    """KL(p~(y) q(k|y) || p(k, y)) up to the data's own entropy: minus the free energy; (R,), nats.

    Source: kexue.fm post 5239; with post 5716, eq. 4, it is the marginal negative log-likelihood
    plus the gap E KL(q(k|y) || p(k|y)), which an E-step makes zero.
    """
    return -(expected_log_joint(natural, sums) + sums.entropy)


def log_joint(natural: Natural, rows: np.ndarray) -> np.ndarray:
    """Values of log p(k, y) of every row under the first restart, (n, K), without `offset`."""
    logits = natural.constant[0] + rows @ natural.linear[0].T
    quadratic = None if natural.quadratic is None else natural.quadratic[0]
    if quadratic is None:
        return logits
    if quadratic.ndim == 1:
        return logits + np.sum(rows**2, axis=1)[:, None] * quadratic
    if quadratic.ndim == 2:
        return logits + rows**2 @ quadratic.T
    for k, matrix in enumerate(quadratic):
        logits[:, k] += np.sum((rows @ matrix) * rows, axis=1)
    return logits


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """Log of the sum of exp over the last axis, safe for any magnitude."""
    top = logits.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return (top + np.log(np.sum(np.exp(logits - top), axis=-1, keepdims=True)))[..., 0]
