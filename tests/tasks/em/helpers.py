"""Shared by the tests of this room: small data sets, families, fits from responsibilities."""

from __future__ import annotations

import numpy as np

from kexue_cli.tasks.em.covariance import AXIS_PARALLEL
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import expectation_of
from kexue_cli.tasks.em.gaussian import GaussianMixture
from kexue_cli.tasks.em.iterate import Fit, Iteration, iterate
from kexue_cli.tasks.em.natural import Parameters, Statistics
from kexue_cli.tasks.em.rows import Rows


def iris() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_iris

    bunch = load_iris()
    return bunch.data, bunch.target


def family_for(
    values: np.ndarray,
    model: str,
    components: int,
    prior: float = 0.0,
    weights: np.ndarray | None = None,
    reg_covar: float = 0.0,
) -> tuple[GaussianMixture, Rows]:
    """A Gaussian family and its rows; rows may hold NaN."""
    weight = np.ones(len(values)) if weights is None else weights
    gaps = bool(np.isnan(values).any())
    shift = np.nanmean(values, axis=0) if gaps else weight @ values / weight.sum()
    rows = Rows(values, shift.astype(np.float64), weights, gaps="hidden" if gaps else "none")
    y = rows.centred()
    scatter = y.T @ (y * weight[:, None])
    variances = np.nanvar(values, axis=0) if gaps else np.diag(scatter) / weight.sum()
    if model in AXIS_PARALLEL:
        scatter = np.diag(scatter)
    family = GaussianMixture(
        model, components, scatter, variances, prior, reg_covar, reduces=not gaps
    )
    return family, rows


def sums_of(rows: Rows, responsibilities: np.ndarray) -> Statistics:
    """Sufficient statistics, second moments in full, from responsibilities (n, K)."""
    y = rows.centred()
    second = np.einsum("nk,ni,nj->kij", responsibilities, y, y)
    return Statistics(
        responsibilities.sum(axis=0)[None],
        (responsibilities.T @ y)[None],
        second[None],
        np.zeros(1),
        np.zeros(1),
    )


def soft(labels: np.ndarray, components: int) -> np.ndarray:
    """0.9 for the label, the rest shared: as tests/golden/mclust.R."""
    z = np.full((len(labels), components), 0.1 / (components - 1))
    z[np.arange(len(labels)), labels] = 0.9
    return z


def run_em(
    family: GaussianMixture,
    rows: Rows,
    start: Parameters,
    engine: Engine | None = None,
    **how: object,
) -> Fit:
    """`iterate` with tight defaults."""
    settings = {"max_iter": 20_000, "tol": 1e-11, **how}
    step = expectation_of(rows, engine or Engine())
    return iterate(family, step, start, Iteration(**settings))  # type: ignore[arg-type]
