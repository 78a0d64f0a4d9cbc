"""E-step of Gaussian mixtures over rows with gaps: the missing block is hidden like the component.

Rows are grouped by which columns they have. For each group and component the observed part gives
the responsibility, and the regression of the missing on the observed columns gives the expected
values and products that the M-step sums.

Source: Ghahramani and Jordan, "Supervised learning from incomplete data via an EM approach", 1994.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kexue_cli.tasks.em.gaussian import LOG_2PI
from kexue_cli.tasks.em.natural import Natural, Statistics, log_sum_exp, zeros_like
from kexue_cli.tasks.em.rows import Mode, Rows


@dataclass
class Moments:
    """Means (R, K, d), covariances (R, K, d, d), log weights (R, K) read off natural parameters."""

    log_weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def moments(natural: Natural) -> Moments:
    """Invert `GaussianMixture.natural(reduced=False)`."""
    assert natural.quadratic is not None
    columns = natural.linear.shape[2]
    precisions = -2.0 * natural.quadratic
    if precisions.ndim == 2:
        precisions = np.repeat(precisions[:, :, None], columns, axis=2)
    if precisions.ndim == 3:
        precisions = precisions[..., None] * np.eye(columns)
    covariances = np.linalg.inv(precisions)
    means = np.einsum("rkij,rkj->rki", covariances, natural.linear)
    log_determinant = np.linalg.slogdet(covariances)[1]
    distance = np.sum(natural.linear * means, axis=2)
    log_weights = natural.constant + 0.5 * (columns * LOG_2PI + log_determinant + distance)
    return Moments(log_weights, means, covariances)


def patterns(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(observed columns as a boolean mask (d,), the rows that have exactly those)."""
    observed = ~np.isnan(values)
    masks, group = np.unique(observed, axis=0, return_inverse=True)
    group = group.reshape(-1)
    for number, mask in enumerate(masks):
        yield mask, np.flatnonzero(group == number)


def gaps_step(natural: Natural) -> Callable[[Rows, Mode, np.ndarray], Statistics]:
    """A function from a slice of rows, which may hold NaN, (and its random numbers) to its sums.

    `entropy` counts both hidden parts, so that the gap after an E-step is zero here, too.
    """
    given = moments(natural)
    assert natural.quadratic is not None
    dimensions = natural.quadratic.ndim

    def step(rows: Rows, mode: Mode, noise: np.ndarray) -> Statistics:
        total = replace(zeros_like(natural), second=np.zeros_like(given.covariances))
        values = rows.centred()
        for mask, chosen in patterns(values):
            part = Rows(values[chosen], np.zeros(values.shape[1]))
            part.weights = None if rows.weights is None else rows.weights[chosen]
            part.labels = None if rows.labels is None else rows.labels[chosen]
            total = total + _of_pattern(part, mask, given, mode, noise[chosen])
        assert total.second is not None
        if dimensions < 4:
            total.second = np.einsum("rkii->rki", total.second)
        if dimensions == 2:
            total.second = total.second.sum(axis=2)
        return total

    return step


def log_joint(values: np.ndarray, natural: Natural) -> np.ndarray:
    """Values of log p(component, observed part) of centred rows (n, d), first restart: (n, K)."""
    given = moments(natural)
    logits = np.empty((len(values), natural.linear.shape[1]))
    for mask, chosen in patterns(values):
        logits[chosen] = conditional(values[chosen], mask, given)[2][0].T
    return logits


def _of_pattern(
    rows: Rows, mask: np.ndarray, given: Moments, mode: Mode, noise: np.ndarray
) -> Statistics:
    filled, left_over, logits = conditional(rows.values, mask, given)
    r, marginal, entropy = posterior(logits, mode, rows.labels, noise.T)
    weight = np.ones(len(rows)) if rows.weights is None else rows.weights
    r = r * weight
    count = r.sum(axis=2)
    gaps = np.flatnonzero(~mask)
    log_volume = np.linalg.slogdet(left_over[:, :, gaps[:, None], gaps])[1]
    entropy_of_gaps = 0.5 * (len(gaps) * (LOG_2PI + 1.0) + log_volume)  # (R, K)
    second = np.swapaxes(filled * r[..., None], 2, 3) @ filled
    return Statistics(
        count,
        np.einsum("rkn,rkni->rki", r, filled),
        second + count[:, :, None, None] * left_over,
        marginal @ weight,
        entropy @ weight + np.sum(count * entropy_of_gaps, axis=1),
    )


def conditional(
    values: np.ndarray, mask: np.ndarray, given: Moments
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What rows (n, d) observed at `mask` say under each component.

    Returns:
        Rows with expected values in the gaps (R, K, n, d); the covariance left over in the gaps,
        zero elsewhere (R, K, d, d); log joints of component and observed part (R, K, n).
    """
    observed, gaps = np.flatnonzero(mask), np.flatnonzero(~mask)
    means, covariances = given.means, given.covariances
    shape = (*means.shape[:2], len(values), means.shape[2])
    filled = np.broadcast_to(means[:, :, None], shape).copy()
    left_over = covariances.copy()
    logits = np.repeat(given.log_weights[:, :, None], len(values), axis=2)
    if len(observed) == 0:
        return filled, left_over, logits
    block = covariances[:, :, observed[:, None], observed]
    inverse = np.linalg.inv(block)
    difference = values[:, observed] - means[:, :, None, observed]  # (R, K, n, o)
    solved = difference @ inverse
    logits -= 0.5 * np.sum(solved * difference, axis=3)
    logits -= 0.5 * (len(observed) * LOG_2PI + np.linalg.slogdet(block)[1])[:, :, None]
    filled[..., observed] = values[:, observed]
    across = covariances[:, :, observed[:, None], gaps]  # (R, K, o, m)
    filled[..., gaps] += solved @ across
    left_over[:, :, observed, :] = 0.0
    left_over[:, :, :, observed] = 0.0
    left_over[:, :, gaps[:, None], gaps] -= np.swapaxes(across, 2, 3) @ inverse @ across
    return filled, left_over, logits


def posterior(
    logits: np.ndarray, mode: Mode, labels: np.ndarray | None, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responsibilities (R, K, n), log p(y) and entropies (R, n) from log joints (R, K, n).

    `noise` (R, n), uniform in [0, 1), draws the components of mode="stochastic".
    """
    components = logits.shape[1]
    marginal = log_sum_exp(np.moveaxis(logits, 1, 2))
    r = np.exp(logits - marginal[:, None])
    entropy = marginal - np.sum(r * np.maximum(logits, -1e300), axis=1)
    chosen = np.full(marginal.shape, -1)
    if mode == "hard":
        chosen, marginal = logits.argmax(axis=1), logits.max(axis=1)
    elif mode == "stochastic":
        passed = np.cumsum(r, axis=1) < noise[:, None]
        chosen = np.minimum(passed.sum(axis=1), components - 1)
    if labels is not None:
        at_label = np.take_along_axis(logits, np.maximum(labels, 0)[None, None], axis=1)[:, 0]
        marginal = np.where(labels >= 0, at_label, marginal)
        chosen = np.where(labels >= 0, labels, chosen)
    one_hot = (chosen[:, None] == np.arange(components)[:, None]).astype(np.float64)
    known = chosen >= 0
    return np.where(known[:, None], one_hot, r), marginal, np.where(known, 0.0, entropy)
