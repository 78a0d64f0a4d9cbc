from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from kexue_cli.tasks.em.covariance import MODELS
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.kernel import BLOCK, _exponential
from kexue_cli.tasks.em.natural import Natural, Statistics, log_joint
from kexue_cli.tasks.em.rows import Mode, Rows
from kexue_cli.tasks.em.starts import start_parameters
from tests.tasks.em.helpers import family_for, iris, run_em, soft, sums_of


def assert_same(a: Statistics, b: Statistics, tolerance: float) -> None:
    for field in fields(Statistics):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if left is None:
            assert right is None
            continue
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance * np.abs(left).max())


def a_case(model: str, restarts: int = 2) -> tuple[Rows, Natural]:
    values, _ = iris()
    family, rows = family_for(values, model, 3)
    start = start_parameters("k-means++", family, rows, Engine(), list(range(restarts)))
    return rows, family.natural(start)


@pytest.mark.parametrize("mode", ["soft", "hard", "stochastic"])
@pytest.mark.parametrize("model", ["EEE", "VII", "VVI", "VVV"])
def test_compiled_kernel_equals_plain_torch(model: str, mode: Mode) -> None:
    rows, natural = a_case(model)
    generator = np.random.default_rng(0)
    rows.weights = generator.random(150)
    rows.labels = np.where(generator.random(150) < 0.2, generator.integers(3, size=150), -1)
    kernel, plain = (
        Engine(backend=backend).expectation(rows, natural, mode) for backend in ("kernel", "torch")
    )
    assert_same(kernel, plain, 1e-12)


@pytest.mark.parametrize("model", ["VVV", "VVI", "VII"])
def test_log_likelihood_is_that_of_scipy(model: str) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3)
    parameters = family.maximise(sums_of(rows, soft(labels, 3)))
    density = np.zeros(150)
    for k in range(3):
        found = parameters["covariances"][0, k]
        found = found if found.ndim == 2 else np.diag(found)
        mean = parameters["means"][0, k] + rows.shift
        density += parameters["weights"][0, k] * multivariate_normal(mean, found).pdf(values)
    sums = Engine().expectation(rows, family.natural(parameters))
    assert sums.log_likelihood[0] == pytest.approx(np.log(density).sum(), abs=1e-9)


def test_exponential_of_the_kernel_is_right_to_two_ulp() -> None:
    x = -np.concatenate([np.random.default_rng(0).exponential(30, 10_000), [0.0, 1e-300, 690.0]])
    out, scratch = np.empty_like(x), np.empty_like(x)
    _exponential(x, scratch, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=5e-16)


@pytest.mark.parametrize("model", ["VVV", "EEE"])
def test_threads_and_slices_change_nothing(model: str) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3 * BLOCK + 17, 4))
    family, rows = family_for(values, model, 3)
    natural = family.natural(start_parameters("points", family, rows, Engine(), [0]))
    one = Engine(threads=1).expectation(rows, natural, slices=rows.slices(100))
    two = Engine(threads=2).expectation(rows, natural, slices=rows.slices(100))
    for field in ("count", "first", "log_likelihood", "entropy"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert_same(one, Engine().expectation(rows, natural), 1e-13)


def test_processes_that_add_their_sums_get_what_one_process_gets() -> None:
    rows, natural = a_case("VVV")
    slices = rows.slices(40)
    whole = Engine().expectation(rows, natural, slices=slices)
    parts = [
        Engine(rank=rank, ranks=3).expectation(rows, natural, slices=slices) for rank in range(3)
    ]
    flats: list[np.ndarray] = []

    def collect(flat: np.ndarray) -> None:
        flats.append(flat.copy())

    for rank in range(3):
        Engine(rank=rank, ranks=3, all_reduce=collect).expectation(rows, natural, slices=slices)
    assert_same(parts[0] + parts[1] + parts[2], whole, 1e-12)

    def add(flat: np.ndarray) -> None:
        flat[:] = sum(flats)

    reduced = Engine(rank=0, ranks=3, all_reduce=add).expectation(rows, natural, slices=slices)
    assert_same(reduced, whole, 1e-12)


def test_a_weight_of_two_is_the_row_twice() -> None:
    values, labels = iris()
    weights = np.random.default_rng(0).integers(0, 4, size=150).astype(float)
    family, rows = family_for(values, "VVV", 3, weights=weights)
    repeated = np.repeat(np.arange(150), weights.astype(int))
    family2, rows2 = family_for(values[repeated], "VVV", 3)
    z = soft(labels, 3)
    fit = run_em(family, rows, family.maximise(sums_of(rows, z * weights[:, None])))
    fit2 = run_em(family2, rows2, family2.maximise(sums_of(rows2, z[repeated])))
    assert fit.log_likelihood[0] == pytest.approx(fit2.log_likelihood[0], abs=1e-8)
    np.testing.assert_allclose(
        fit.parameters["covariances"], fit2.parameters["covariances"], rtol=1e-6
    )


def test_memory_mapped_rows_give_the_same_fit(tmp_path: Path) -> None:
    values, labels = iris()
    np.save(tmp_path / "rows.npy", values.astype(np.float32))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    family, rows = family_for(values.astype(np.float32), "VVV", 3)
    start = family.maximise(sums_of(rows, soft(labels, 3)))
    ours = run_em(family, rows, start)
    rows.values = mapped
    streamed = run_em(family, rows, start)
    np.testing.assert_array_equal(ours.log_likelihood, streamed.log_likelihood)


@pytest.mark.parametrize("model", ["VVV", "EEE", "VII"])
def test_log_joint_of_new_rows_agrees_with_the_pass(model: str) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3)
    parameters = family.maximise(sums_of(rows, soft(labels, 3)))
    logits = log_joint(family.natural(parameters, reduced=False), rows.centred())
    total = np.logaddexp.reduce(logits, axis=1).sum()
    natural = family.natural(parameters)
    sums = Engine().expectation(rows, natural)
    assert total == pytest.approx(float((sums.log_likelihood + natural.offset)[0]), abs=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_sampling_gives_the_moments_back(model: str) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3)
    parameters = family.maximise(sums_of(rows, soft(labels, 3)))
    drawn, components = family.sample(parameters, 40_000, np.random.default_rng(0))
    chosen = drawn[components == 1]
    np.testing.assert_allclose(chosen.mean(axis=0), parameters["means"][0, 1], atol=0.03)
    found = parameters["covariances"][0, 1]
    found = found if found.ndim == 2 else np.diag(found)
    np.testing.assert_allclose(np.cov(chosen.T), found, atol=0.05)
