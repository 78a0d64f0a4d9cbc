"""K-Means as the limit of a mixture whose common variance goes to zero (kexue.fm post 5155)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.kmeans import lloyd, variance_of
from kexue_cli.tasks.em.natural import Natural
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.stage import Stage


@dataclass
class AnnealedFit:
    """K-Means as a limit: the path of a mixture with equal weights and one shrinking variance."""

    centres: np.ndarray
    variance: list[float]
    entropy_per_row: list[float]  # nats; 0 when all responsibilities are 0 or 1
    inertia: list[float]  # of the hard assignment

    def grow(self, variance: float, entropy: float, inertia: float) -> None:
        """One more point of the path."""
        self.variance = [*self.variance, variance]
        self.entropy_per_row = [*self.entropy_per_row, entropy]
        self.inertia = [*self.inertia, inertia]


def annealed(
    rows: Rows,
    centres: np.ndarray,
    engine: Engine,
    rate: float = 0.9,
    final: float = 1e-4,
    inner: int = 3,
    on_step: Callable[[AnnealedFit], None] = lambda fit: None,
    stage: Stage | None = None,
) -> AnnealedFit:
    """EM of sum_k N(y; c_k, s^2 I)/K while s^2 falls from the data's total variance towards 0.

    Args:
        rate: factor of s^2 after every `inner` iterations; final: last s^2 over the first.
        on_step: told the path so far after every value of s^2.

    Source: kexue.fm post 5155: for s -> 0 the responsibilities become 0 or 1 and EM is K-Means.
    """
    stage = stage or Stage()
    fit = AnnealedFit(centres, [], [], []) if stage.state is None else AnnealedFit(**stage.state)
    if fit.variance and fit.variance[-1] == 0.0:  # it had ended before the stop
        return fit
    first = variance_of(rows, engine) * centres.shape[1]  # above every direction's variance
    while (variance := first * rate ** len(fit.variance)) > first * final:
        stage.keep({**vars(fit)})
        for _ in range(inner):
            natural = _common_variance(fit.centres, variance)
            sums = engine.expectation(rows, natural)
            fit.centres = sums.first[0] / np.maximum(sums.count[0], 1e-300)[:, None]
        hard = lloyd(rows, fit.centres, max_iter=1, engine=engine)
        fit.grow(variance, float(sums.entropy[0]) / rows.total_weight, hard.history[0])
        on_step(fit)
    limit = lloyd(rows, fit.centres, engine=engine)
    fit.centres = limit.centres
    fit.grow(0.0, 0.0, limit.inertia)
    on_step(fit)
    stage.keep({**vars(fit)})
    return fit


def _common_variance(centres: np.ndarray, variance: float) -> Natural:
    constant = -0.5 * np.sum(centres**2, axis=1) / variance
    return Natural(constant[None], (centres / variance)[None], None, np.zeros(1))
