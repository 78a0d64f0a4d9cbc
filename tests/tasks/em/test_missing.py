from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from kexue_cli.tasks.em import missing
from kexue_cli.tasks.em.covariance import MODELS
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Settings, fit_mixture
from tests.tasks.em.helpers import family_for, iris, run_em, soft, sums_of


def punched(share: float, seed: int = 0) -> np.ndarray:
    values, _ = iris()
    holes = np.random.default_rng(seed).random(values.shape) < share
    holes[holes.all(axis=1)] = False
    return np.where(holes, np.nan, values)


@pytest.mark.parametrize("model", MODELS)
def test_without_gaps_it_is_the_ordinary_e_step(model: str) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3)
    parameters = family.maximise(sums_of(rows, soft(labels, 3)))
    natural = family.natural(parameters, reduced=False)
    ordinary = Engine().expectation(rows, natural)
    found = Engine().expectation(replace(rows, gaps="hidden"), natural)
    assert found.second is not None
    assert ordinary.second is not None
    np.testing.assert_allclose(found.second, ordinary.second, atol=1e-9)
    assert found.log_likelihood[0] == pytest.approx(ordinary.log_likelihood[0], abs=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_log_likelihood_is_that_of_the_observed_columns(model: str) -> None:
    values = punched(0.2)
    complete, labels = iris()
    family, rows = family_for(complete, model, 2)
    parameters = family.maximise(sums_of(rows, soft(np.minimum(labels, 1), 2)))
    gappy, _ = family_for(values, model, 2)
    rows.values = values
    total = 0.0
    for row in values:
        seen = ~np.isnan(row)
        density = 0.0
        for k in range(2):
            found = parameters["covariances"][0, k]
            found = found if found.ndim == 2 else np.diag(found)
            mean = parameters["means"][0, k] + rows.shift
            normal = multivariate_normal(mean[seen], found[np.ix_(seen, seen)])
            density += parameters["weights"][0, k] * normal.pdf(row[seen])
        total += np.log(density)
    natural = gappy.natural(parameters)
    found = Engine().expectation(replace(rows, gaps="hidden"), natural).log_likelihood[0]
    assert found == pytest.approx(total, abs=1e-8)


def test_one_gaussian_converges_to_a_zero_of_the_observed_gradient() -> None:
    """K=1, VVV: at the maximum, moving any parameter lowers the observed likelihood."""
    values = punched(0.25)
    family, rows = family_for(values, "VVV", 1)
    start = family.maximise(sums_of(family_for(iris()[0], "VVV", 1)[1], np.ones((150, 1))))
    fit = run_em(family, rows, start, tol=1e-12)
    best = fit.log_likelihood[0]
    generator = np.random.default_rng(1)
    for _ in range(20):
        moved = {name: array.copy() for name, array in fit.parameters.items()}
        moved["means"] = moved["means"] + 1e-3 * generator.normal(size=moved["means"].shape)
        nudge = 1e-3 * generator.normal(size=(4, 4))
        moved["covariances"] = moved["covariances"] + nudge + nudge.T
        other = Engine().expectation(rows, family.natural(moved)).log_likelihood[0]
        assert other < best


def test_clusters_survive_a_tenth_of_the_values_missing() -> None:
    from sklearn.metrics import adjusted_rand_score

    _, labels = iris()
    values = punched(0.1)
    family, rows = family_for(values, "VVV", 3, prior=1e-6)
    settings = Settings(scale=np.sqrt(family.variances), n_init=5, tol=1e-4)
    outcome = fit_mixture(family, rows, Engine(), settings, list(range(5)))
    natural = family.natural(outcome.parameters, reduced=False)
    clusters = missing.log_joint(rows.centred(), natural).argmax(axis=1)
    assert adjusted_rand_score(labels, clusters) > 0.65
