from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from kexue_cli.tasks.em import kmeans_pass
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.kmeans import lloyd
from kexue_cli.tasks.em.kmeans_limit import annealed
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.starts import plus_plus
from tests.tasks.em.conftest import Run
from tests.tasks.em.helpers import iris


@pytest.mark.parametrize("path", ["kernel", "torch"])
@pytest.mark.parametrize("rows", ["clustered", "structureless"])
def test_lloyd_takes_the_same_path_as_scikit_learn(
    rows: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "torch":
        monkeypatch.setattr(kmeans_pass, "obstacle", lambda: "not now")
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3000, 6))
    if rows == "clustered":
        values += 8 * generator.normal(size=(12, 6))[generator.integers(12, size=3000)]
    start = values[:12]
    theirs = KMeans(12, init=start, n_init=1, tol=0.0, max_iter=300, algorithm="lloyd").fit(values)
    shift = values.mean(axis=0)
    ours = lloyd(Rows(values, shift), start - shift)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-12)
    assert ours.iterations == theirs.n_iter_
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    assert np.all(np.diff(ours.history) <= 1e-9 * ours.history[0])


def test_stopped_early_the_labels_belong_to_the_last_centres() -> None:
    values = np.random.default_rng(0).normal(size=(500, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KMeans(5, init=values[:5], n_init=1, tol=0.0, max_iter=3).fit(values)
    ours = lloyd(values, values[:5], max_iter=3)
    assert not ours.converged
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-12)


def test_iris_inertia_is_the_known_minimum() -> None:
    values, _ = iris()
    results = [
        lloyd(values, plus_plus(values, 3, np.random.default_rng(seed))).inertia
        for seed in range(10)
    ]
    assert min(results) == pytest.approx(78.851441426, abs=1e-8)


def test_float32_rows_far_from_zero() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2000, 4)) + 5 * generator.integers(0, 2, size=(2000, 1)) + 1e4
    single = values.astype(np.float32)
    shift = single.mean(axis=0, dtype=np.float64)
    ours = lloyd(Rows(single, shift), single[:2] - shift)
    exact = lloyd(Rows(single.astype(np.float64), shift), single[:2] - shift)
    assert ours.inertia == pytest.approx(exact.inertia, rel=1e-6)  # a row on the border may differ


def test_weights_count_as_repeated_rows() -> None:
    values, _ = iris()
    weights = np.random.default_rng(0).integers(0, 3, size=150)
    shift = np.zeros(4)
    weighted = lloyd(Rows(values, shift, weights.astype(float)), values[[0, 60, 120]])
    repeated = lloyd(np.repeat(values, weights, axis=0), values[[0, 60, 120]])
    assert weighted.inertia == pytest.approx(repeated.inertia, rel=1e-12)


def test_units_change_neither_clusters_nor_their_numbers(em: Run, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(90, 3)) + 5 * (np.arange(90) % 3)[:, None]
    found = []
    for number, factor in enumerate((1.0, 1e-3, 1e6)):
        np.save(tmp_path / f"{number}.npy", values * factor)
        path = f"data.path={tmp_path}/{number}.npy"
        for model in ("kmeans", "gmm"):
            directory = em(f"model={model}", "data=table", path, "task.plots=false")
            found.append(np.loadtxt(directory / "submission.csv", delimiter=",", skiprows=1)[:, 1])
    assert all(np.array_equal(labels, found[i % 2]) for i, labels in enumerate(found))


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    values = np.concatenate([np.zeros((5, 1)), np.ones((5, 1)), [[10.0]]])
    fit = lloyd(values, np.array([[0.0], [1.0], [1000.0]]))
    assert fit.inertia == 0.0
    assert sorted(fit.count.tolist()) == [1.0, 5.0, 5.0]


def test_threads_change_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(40_000, 20))
    one, two = (lloyd(values, values[:7], 10, engine=Engine(threads=n)) for n in (1, 2))
    np.testing.assert_array_equal(one.centres, two.centres)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "columns", "components"), [(1000, 1, 3), (700, 35, 37), (60, 9, 2)]
)
def test_kernel_and_plain_torch_agree_in_every_pass(
    kind: type, rows: int, columns: int, components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _skip_without_kernel()
    generator = np.random.default_rng(0)
    values: NDArray[Any] = (generator.normal(size=(rows, columns)) + 3).astype(kind)
    shift, weights = values.mean(axis=0, dtype=np.float64), generator.uniform(size=rows)
    data, start = Rows(values, shift, weights), values[:components] - shift
    ours = lloyd(data, start, 15)
    monkeypatch.setattr(kmeans_pass, "obstacle", lambda: "not now")
    plain = lloyd(data, start, 15)
    np.testing.assert_array_equal(ours.labels, plain.labels)
    np.testing.assert_allclose(ours.history, plain.history, rtol=1e-9)
    np.testing.assert_allclose(ours.centres, plain.centres, rtol=1e-9, atol=1e-9)


def test_bounds_spare_rows_of_clusters_and_change_no_label() -> None:
    """Every pass with bounds against one that compares every row with every centre."""
    _skip_without_kernel()
    generator = np.random.default_rng(0)
    centres = 4 * generator.normal(size=(20, 8))
    values = centres[generator.integers(20, size=5000)] + generator.normal(size=(5000, 8))
    values = values.astype(np.float32)
    rows, now = Rows(values, np.zeros(8)), values[:20].astype(np.float64)
    known = kmeans_pass.Known(np.zeros(5000, np.int32), *np.zeros((2, 5000), np.float32))
    travelled, drift, compared = np.zeros(20), 0.0, []
    for number in range(8):
        step = kmeans_pass.native_step(rows, now, True, number > 0, travelled, drift)
        change = step(rows, known)
        compared.append(change.compared)
        exact = ((values[:, None].astype(np.float64) - now) ** 2).sum(2)
        chosen = exact[np.arange(5000), known.labels]
        assert np.all(chosen <= exact.min(1) + 1e-4)
        following = change.sums / np.maximum(change.count, 1)[:, None]
        steps = np.sqrt(((following - now) ** 2).sum(1))
        now, travelled, drift = following, travelled + steps, drift + steps.max()
    assert compared[0] == 5000
    assert compared[-1] < 2500


def _skip_without_kernel() -> None:
    if (why := kmeans_pass.obstacle()) is not None:
        pytest.skip(why)


def test_plus_plus_never_takes_a_row_twice() -> None:
    values = np.repeat(np.arange(6.0)[:, None], 50, axis=0)
    for seed in range(20):
        centres = plus_plus(values, 6, np.random.default_rng(seed))
        assert sorted(centres.ravel().tolist()) == [0, 1, 2, 3, 4, 5]


def test_the_mixture_with_vanishing_variance_ends_as_kmeans() -> None:
    values, _ = iris()
    shift = values.mean(axis=0)
    rows = Rows(values, shift)
    nudge = 0.01 * np.random.default_rng(0).normal(size=(3, 4))
    path = annealed(rows, nudge, Engine(), final=1e-5)
    assert path.inertia[-1] == pytest.approx(78.851441426, abs=1e-8)
    assert path.entropy_per_row[0] == pytest.approx(np.log(3), abs=0.01)
    assert path.entropy_per_row[-2] < 1e-4  # responsibilities are 0 or 1 before the hard step
