"""The same pass for sparse counts: products with scipy, no T(y) beside y."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kexue_cli.tasks.em.missing import posterior
from kexue_cli.tasks.em.natural import Natural, Statistics
from kexue_cli.tasks.em.rows import Mode, Rows


def sparse_step(natural: Natural) -> Callable[[Rows, Mode, np.ndarray], Statistics]:
    """A function from a slice of CSR rows (and its random numbers) to its sums."""
    restarts, components, columns = natural.linear.shape
    linear = natural.linear.reshape(-1, columns)

    def step(rows: Rows, mode: Mode, noise: np.ndarray) -> Statistics:
        logits = rows.values @ linear.T + natural.constant.ravel()
        logits = logits.reshape(-1, restarts, components).transpose(1, 2, 0)  # (R, K, n)
        r, marginal, entropy = posterior(logits, mode, rows.labels, noise.T)
        weight = np.ones(len(rows)) if rows.weights is None else rows.weights
        r = r * weight
        first = (rows.values.T @ r.reshape(-1, len(rows)).T).T
        return Statistics(
            r.sum(axis=2),
            first.reshape(natural.linear.shape),
            None,
            marginal @ weight,
            entropy @ weight,
        )

    return step
