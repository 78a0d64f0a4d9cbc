"""Several processes that add up their sums end where one process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from kexue_cli.tasks.em.discrete import BernoulliMixture, MultinomialMixture
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Outcome, Settings, fit_mixture
from kexue_cli.tasks.em.kmeans import lloyd
from kexue_cli.tasks.em.kmeans_limit import annealed
from kexue_cli.tasks.em.plsa import plsa, random_start
from kexue_cli.tasks.em.rows import Rows
from tests.tasks.em.helpers import family_for


def in_processes(work: Callable[[Engine], Any], ranks: int = 3) -> list[Any]:
    """What `work` returns on every rank; threads stand for processes."""
    barrier = threading.Barrier(ranks)
    shared: dict[int, np.ndarray] = {}

    def reducer(rank: int) -> Callable[[np.ndarray], None]:
        def all_reduce(flat: np.ndarray) -> None:
            shared[rank] = flat.copy()
            barrier.wait(timeout=60)
            total = sum(shared[other] for other in range(ranks))
            barrier.wait(timeout=60)
            flat[:] = total

        return all_reduce

    def one(rank: int) -> Any:
        try:
            return work(Engine(rank=rank, ranks=ranks, all_reduce=reducer(rank)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(one, range(ranks)))


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every process has some."""
    monkeypatch.setattr("kexue_cli.tasks.em.rows.SLICE_BYTES", 8 * 4 * 130)
    monkeypatch.setattr("kexue_cli.tasks.em.engine.GAP_VALUES", 2000)


def gaussian_rows() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = 3 * generator.normal(size=(3, 4))
    return centres[generator.integers(0, 3, size=1000)] + generator.normal(size=(1000, 4))


def mixture(kind: str) -> Callable[[Engine], Outcome]:
    generator = np.random.default_rng(1)
    values = gaussian_rows()
    settings = Settings(tol=1e-3, max_iter=30)
    family: Any
    if kind == "gaps":
        values[generator.random(values.shape) < 0.1] = np.nan
        values = values[~np.isnan(values).all(axis=1)]
    if kind in ("gaps", "VVV", "EEE", "VVE"):
        family, rows = family_for(values, "VVV" if kind == "gaps" else kind, 3, prior=1e-6)
        settings.scale = np.sqrt(family.variances)
    elif kind == "bits":
        rows = Rows((values > 0).astype(np.uint8), np.zeros(4))
        family, settings.start = BernoulliMixture(3, 4), "points"
    else:
        counts = sp.csr_matrix(generator.poisson(0.5, size=(1000, 30)) + np.eye(1000, 30))
        rows, settings.start = Rows(counts, np.zeros(30)), "random"
        family = MultinomialMixture(3, 30)
    return lambda engine: fit_mixture(family, rows, engine, settings, [1, 2])


@pytest.mark.parametrize("kind", ["VVV", "EEE", "VVE", "gaps", "bits", "sparse counts"])
def test_mixtures(kind: str) -> None:
    work = mixture(kind)
    whole = work(Engine())
    for part in in_processes(work):
        assert part.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)
        assert part.iterations == whole.iterations
        for name, array in whole.parameters.items():
            np.testing.assert_allclose(part.parameters[name], array, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("empties", [False, True])
def test_k_means(empties: bool) -> None:
    values = gaussian_rows()
    start = values[:5].copy()
    if empties:
        start[2:4] = 1e3  # two clusters that no row is near to: both are refilled
    whole = lloyd(values, start)
    assert (whole.count > 0).all()
    for part in in_processes(lambda engine: lloyd(values, start, engine=engine)):
        np.testing.assert_allclose(part.centres, whole.centres, rtol=1e-10)
        assert part.inertia == pytest.approx(whole.inertia, rel=1e-12)
        assert part.iterations == whole.iterations


def test_k_means_limit() -> None:
    rows = Rows(gaussian_rows(), np.zeros(4))
    nudge = 0.01 * np.random.default_rng(0).normal(size=(3, 4))
    whole = annealed(rows, nudge, Engine(), rate=0.5)
    for part in in_processes(lambda engine: annealed(rows, nudge, engine, rate=0.5)):
        assert part.inertia == pytest.approx(whole.inertia, rel=1e-10)


@pytest.mark.parametrize("fold_in", [False, True])
def test_topics(fold_in: bool) -> None:
    generator = np.random.default_rng(0)
    counts = sp.csr_matrix(generator.poisson(0.8, size=(50, 20)) + np.eye(50, 20))
    topics, words = random_start(50, 20, 4, generator)
    whole = plsa(counts, topics, words, 60, fold_in=fold_in)
    parts = in_processes(lambda e: plsa(counts, topics, words, 60, fold_in=fold_in, engine=e))
    for part in parts:
        np.testing.assert_allclose(part.topics_of_documents, whole.topics_of_documents, atol=1e-9)
        np.testing.assert_allclose(part.words_of_topics, whole.words_of_topics, atol=1e-9)
        assert part.perplexity == pytest.approx(whole.perplexity, rel=1e-10)
