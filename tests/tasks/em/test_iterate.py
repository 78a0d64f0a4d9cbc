from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kexue_cli.tasks.em.covariance import MODELS
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Outcome, Settings, expectation_of, fit_mixture, measured
from kexue_cli.tasks.em.iterate import Iteration, Trace, iterate, take
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.starts import start_parameters
from tests.tasks.em.helpers import family_for, iris, run_em, soft, sums_of


def fit_iris(
    settings: Settings, seeds: list[int], components: int = 3, engine: Engine | None = None
) -> Outcome:
    family, rows = family_for(iris()[0], "VVV", components, prior=1e-6)
    settings.scale = np.sqrt(family.variances)
    return fit_mixture(family, rows, engine or Engine(), settings, seeds)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_the_gap_is_zero_after_e_and_nothing_ever_rises(model: str, gaps: bool) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3, prior=1e-3)
    start = family.maximise(sums_of(rows, soft(labels, 3)))
    if gaps:
        holes = np.random.default_rng(0).random(values.shape) < 0.1
        values = np.where(holes & ~holes.all(axis=1, keepdims=True), np.nan, values)
        family, rows = family_for(values, model, 3, prior=1e-3)
    traces: list[Trace] = []
    step = expectation_of(rows, Engine())
    iterate(family, step, start, Iteration(60, 1e-9), lambda t, p: traces.append(t))
    marginal = np.array([t.marginal for t in traces])
    after_e = np.array([t.joint_after_e for t in traces])
    after_m = np.array([t.joint_after_m for t in traces])
    slack = 1e-10 * np.abs(marginal).max()
    assert len(traces) > 3
    np.testing.assert_allclose(after_e, marginal, atol=slack)  # gap 0 after E
    assert np.all(after_m <= after_e + slack)
    assert np.all(np.diff(marginal) <= slack)
    assert np.all(after_m[:-1] - marginal[1:] >= -slack)  # gap >= 0 after M


@pytest.mark.parametrize(
    ("kind", "model"), [("full", "VVV"), ("tied", "EEE"), ("diag", "VVI"), ("spherical", "VII")]
)
@pytest.mark.parametrize("reg_covar", [1e-12, 1e-3])
def test_equal_to_scikit_learn_from_the_same_start(kind: str, model: str, reg_covar: float) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values, labels = iris()
    family, rows = family_for(values, model, 3, reg_covar=reg_covar)
    start = family.maximise(sums_of(rows, soft(labels, 3)))
    found = (
        np.linalg.inv(start["covariances"][0])
        if kind in ("full", "tied")
        else 1 / start["covariances"][0]
    )
    precisions = {"full": found, "tied": found[0], "diag": found, "spherical": found[:, 0]}[kind]
    theirs = GaussianMixture(
        3,
        covariance_type=kind,
        tol=0.0,
        max_iter=25,
        reg_covar=reg_covar,
        weights_init=start["weights"][0],
        means_init=start["means"][0] + rows.shift,
        precisions_init=precisions,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(values)
    ours = run_em(family, rows, start, max_iter=25, tol=0.0)
    assert ours.log_likelihood[0] == pytest.approx(theirs.score(values) * 150, abs=1e-6)
    np.testing.assert_allclose(ours.parameters["weights"][0], theirs.weights_, atol=1e-6)
    np.testing.assert_allclose(ours.parameters["means"][0] + rows.shift, theirs.means_, atol=1e-6)
    covariances = {
        "full": lambda c: c,
        "tied": lambda c: c[0],
        "diag": lambda c: c,
        "spherical": lambda c: c[:, 0],
    }[kind](ours.parameters["covariances"][0])
    np.testing.assert_allclose(covariances, theirs.covariances_, atol=1e-6)


def test_a_batch_of_restarts_is_each_restart_alone() -> None:
    family, rows = family_for(iris()[0], "VVV", 3, prior=1e-6)
    batch = start_parameters("k-means++", family, rows, Engine(), [1, 2, 3, 4])
    together = run_em(family, rows, batch, tol=1e-8)
    for r, seed in enumerate([1, 2, 3, 4]):
        start = start_parameters("k-means++", family, rows, Engine(), [seed])
        alone = run_em(family, rows, start, tol=1e-8)
        assert alone.log_likelihood[0] == pytest.approx(together.log_likelihood[r], abs=1e-8)
        assert abs(int(alone.iterations[0]) - int(together.iterations[r])) <= 1


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (fit_iris(Settings(n_init=3), [5, 6, 7]) for _ in range(2))
    assert first.log_likelihood == second.log_likelihood
    np.testing.assert_array_equal(first.parameters["means"], second.parameters["means"])


@pytest.mark.parametrize("start", ["k-means++", "k-means", "random", "points"])
def test_every_start_finds_the_same_maximum_in_enough_restarts(start: str) -> None:
    outcome = fit_iris(Settings(start=start), list(range(10)), 2)  # type: ignore[arg-type]
    assert outcome.log_likelihood == pytest.approx(-214.3547, abs=2e-3)


def test_given_means_are_where_it_starts() -> None:
    values, labels = iris()
    means = np.stack([values[labels == k].mean(axis=0) for k in range(3)])
    outcome = fit_iris(Settings(start="given", start_means=means), [0])
    assert outcome.log_likelihood == pytest.approx(-180.1855, abs=2e-3)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(race=True),
        Settings(annealing=20),
        Settings(batch_rows=30),
        Settings(algorithm="stochastic"),
        Settings(stop="aitken"),
    ],
    ids=["race", "annealing", "incremental", "stochastic", "aitken"],
)
def test_every_variant_ends_at_the_maximum(settings: Settings) -> None:
    outcome = fit_iris(settings, list(range(10)), 2)
    assert outcome.log_likelihood == pytest.approx(-214.3547, abs=2e-3)
    assert outcome.converged


@pytest.mark.parametrize(("model", "restarts"), [("VVV", 10), ("EII", 1)])
def test_annealing_parts_components_that_merged_while_hot(model: str, restarts: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(150, 3)) + 5 * (np.arange(150) % 3)[:, None] * [1, -1, 0.5]
    family, rows = family_for(values, model, 3, prior=1e-6)
    fits = [
        fit_mixture(family, rows, Engine(), Settings(annealing=annealing), list(range(number)))
        for annealing, number in ((0, 10), (30, restarts))
    ]
    assert fits[1].log_likelihood == pytest.approx(fits[0].log_likelihood, abs=1e-4)


def test_float32_arithmetic_ends_where_float64_does() -> None:
    single = fit_iris(Settings(), [1, 2, 3], engine=Engine(dtype="float32"))
    double = fit_iris(Settings(), [1, 2, 3])
    assert single.log_likelihood == pytest.approx(double.log_likelihood, abs=1e-4)


def test_a_race_drops_restarts_and_keeps_the_best() -> None:
    outcome = fit_iris(Settings(race=True, tol=1e-12), list(range(10)))
    assert sum(row["raced_out"] for row in outcome.restarts) >= 5


def test_a_race_waits_for_the_end_of_annealing() -> None:
    raced = Settings(race=True, annealing=25, max_iter=30)
    assert not any(row["raced_out"] for row in fit_iris(raced, list(range(6))).restarts)
    raced.max_iter = 36
    assert any(row["raced_out"] for row in fit_iris(raced, list(range(6))).restarts)


def test_a_race_is_run_against_converged_restarts_too() -> None:
    family, rows = family_for(iris()[0], "VVV", 3, prior=1e-6)
    step, how = expectation_of(rows, Engine()), Iteration(1000, 1e-8, race=True)
    slow = start_parameters("points", family, rows, Engine(), [0])
    alone = iterate(family, step, slow, replace(how, race=False))
    best = start_parameters("k-means++", family, rows, Engine(), list(range(10)))
    ends = iterate(family, step, best, how)
    done = take(ends.parameters, np.argsort(-ends.objective)[[0, 0, 0]])
    together = iterate(
        family, step, {name: np.concatenate([done[name], slow[name]]) for name in slow}, how
    )
    assert alone.iterations[0] > 20
    assert alone.objective[0] < ends.objective.max() - 1
    assert together.iterations[3] == 10
    assert together.raced_out.tolist() == [False, False, False, True]


def test_hard_em_raises_the_classification_likelihood_to_a_fixed_point() -> None:
    family, rows = family_for(iris()[0], "VVV", 3, prior=1e-6)
    start = start_parameters("k-means++", family, rows, Engine(), [3])
    step = expectation_of(rows, Engine())
    history: list[float] = []
    fit = iterate(
        family,
        step,
        start,
        Iteration(200, 1e-9, mode="hard"),
        lambda t, p: history.append(-t.marginal),
    )
    assert np.all(np.diff(history) >= -1e-9)
    assert fit.converged[0]
    np.testing.assert_allclose(fit.count[0], np.round(fit.count[0]), atol=1e-9)


def test_aitken_stops_no_later_than_its_limit_allows() -> None:
    """Slow climb: the change is small long before the end; Aitken's distance knows."""
    values = np.random.default_rng(0).normal(size=(300, 1))  # one cluster, fitted by two
    family, rows = family_for(values, "VII", 2, prior=1e-6)
    start = start_parameters("k-means++", family, rows, Engine(), [0])
    exact = run_em(family, rows, start, tol=1e-12).log_likelihood[0]
    by_change = run_em(family, rows, start, tol=1e-3, stop="change").log_likelihood[0]
    by_limit = run_em(family, rows, start, tol=1e-3, stop="aitken").log_likelihood[0]
    assert exact - by_limit < 0.8 * (exact - by_change)


def test_known_labels_pull_the_clusters_onto_the_classes() -> None:
    values, labels = iris()
    family, rows = family_for(values, "EEE", 3, prior=1e-6)
    known = np.random.default_rng(0).random(150) < 0.3
    rows.labels = np.where(known, labels, -1)
    settings = Settings(scale=np.sqrt(family.variances))
    outcome = fit_mixture(family, rows, Engine(), settings, [0])
    mean = outcome.parameters["means"][0] + rows.shift
    for k in range(3):  # component k is class k, not any permutation
        np.testing.assert_allclose(mean[k], values[labels == k].mean(axis=0), atol=0.25)


def test_all_labels_known_is_one_m_step() -> None:
    values, labels = iris()
    family, rows = family_for(values, "VEV", 3)
    rows.labels = labels.astype(np.int64)
    outcome = fit_mixture(family, rows, Engine(), Settings(), [0])
    expected = np.stack([values[labels == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(outcome.parameters["means"][0] + rows.shift, expected, atol=1e-9)
    # the mixture likelihood of mclust's EDDA fit of VEV (vignette of 6.1.3)
    rows.labels = None
    outcome = measured(family, rows, Engine(), outcome.parameters)
    assert outcome.log_likelihood == pytest.approx(-187.7097, abs=1e-3)


@pytest.mark.parametrize(("shift", "model"), [(0.0, "VVV"), (1e3, "VVI"), (1e5, "VVV")])
def test_float32_rows_far_from_zero_are_fitted_right(shift: float, model: str) -> None:
    """scikit-learn 1.9.1 in float32 fails at 1e3 (diag), is 0.7 nats per row off at 1e5 (full)."""
    generator = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 6.0]])[generator.integers(2, size=1000)]
    values = (centres + generator.normal(size=(1000, 2)) + shift).astype(np.float32)
    family, rows = family_for(values.astype(np.float64), model, 2, prior=1e-6)
    exact = fit_mixture(family, rows, Engine(), Settings(), [0])
    single = Rows(values, rows.shift)
    found = fit_mixture(family, single, Engine(), Settings(), [0])
    assert found.log_likelihood == pytest.approx(exact.log_likelihood, abs=1e-6)
    assert -4.3 < found.log_likelihood / 1000 < -3.3


def test_two_float32_points_have_no_variance_but_the_ridge() -> None:
    """scikit-learn issue 30382: covariances [112.1, 0.1] instead of [0.1, 0.1]."""
    values = np.array([[9999.0], [0.0]], dtype=np.float32)
    family, rows = family_for(values.astype(np.float64), "VII", 2, reg_covar=0.1)
    rows.values = values
    outcome = fit_mixture(family, rows, Engine(), Settings(max_iter=100), [0])
    np.testing.assert_allclose(outcome.parameters["covariances"].ravel(), [0.1, 0.1], rtol=1e-6)
