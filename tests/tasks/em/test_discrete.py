from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from kexue_cli.tasks.em.discrete import BernoulliMixture, MultinomialMixture
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Settings, expectation_of, fit_mixture
from kexue_cli.tasks.em.iterate import Iteration, Trace, iterate
from kexue_cli.tasks.em.plsa import plsa, random_start
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.word_counts import read_counts


def bits(n: int = 400, d: int = 12) -> np.ndarray:
    generator = np.random.default_rng(0)
    means = generator.random((3, d))
    return (generator.random((n, d)) < means[generator.integers(3, size=n)]).astype(np.uint8)


def counts(documents: int = 60, words: int = 40) -> np.ndarray:
    generator = np.random.default_rng(1)
    topics = generator.dirichlet(0.1 * np.ones(words), size=4)
    return np.stack(
        [generator.multinomial(80, topics[generator.integers(4)]) for _ in range(documents)]
    )


def test_two_coins_of_do_and_batzoglou() -> None:
    values = np.array([[h, 10 - h] for h in (5, 9, 8, 4, 7)], dtype=float)
    family = MultinomialMixture(2, 2, pseudo_count=0.0, fixed_weights=True)
    rows = Rows(values, np.zeros(2))
    start = {"weights": np.full((1, 2), 0.5), "means": np.array([[[0.6, 0.4], [0.5, 0.5]]])}
    step = expectation_of(rows, Engine())
    path: list[np.ndarray] = []
    fit = iterate(
        family,
        step,
        start,
        Iteration(1000, 1e-15),
        lambda t, p: path.append(p["means"][0, :, 0].copy()),
    )
    np.testing.assert_allclose(path[1], [0.7130, 0.5813], atol=5e-5)
    np.testing.assert_allclose(path[10], [0.7967441, 0.5196587], atol=5e-8)
    np.testing.assert_allclose(fit.parameters["means"][0, :, 0], [0.7967891, 0.5195831], atol=2e-7)


@pytest.mark.parametrize("kind", ["bits", "dense counts", "sparse counts"])
def test_the_penalised_likelihood_never_falls_and_the_gap_closes(kind: str) -> None:
    if kind == "bits":
        values, family = bits(), BernoulliMixture(3, 12)
    else:
        values, family = counts(), MultinomialMixture(4, 40)  # type: ignore[assignment]
        values = sp.csr_matrix(values.astype(float)) if kind == "sparse counts" else values
    rows = Rows(values, np.zeros(values.shape[1]))
    traces: list[Trace] = []
    outcome = fit_mixture(
        family,
        rows,
        Engine(),
        Settings(start="points", tol=1e-10),
        [0, 1, 2],
        lambda trace, parameters: traces.append(trace),
    )
    assert outcome.converged
    assert {trace.restart for trace in traces} == {0, 1, 2}
    for trace in traces:
        assert abs(trace.gap_after_e) < 1e-8
        assert trace.joint_after_m <= trace.joint_after_e + 1e-8


def test_sparse_and_dense_counts_are_the_same_rows() -> None:
    dense = counts()
    family = MultinomialMixture(4, 40)
    outcomes = [
        fit_mixture(family, Rows(v, np.zeros(40)), Engine(), Settings(start="points"), [3])
        for v in (dense.astype(float), sp.csr_matrix(dense.astype(float)))
    ]
    assert outcomes[0].log_likelihood == pytest.approx(outcomes[1].log_likelihood, abs=1e-8)


def test_bernoulli_likelihood_is_the_sum_written_out() -> None:
    values = bits(30, 5).astype(float)
    family = BernoulliMixture(2, 5)
    generator = np.random.default_rng(0)
    parameters = {"weights": np.array([[0.3, 0.7]]), "means": generator.random((1, 2, 5))}
    total = 0.0
    for row in values:
        p = parameters["means"][0]
        total += np.log(parameters["weights"][0] @ np.prod(np.where(row > 0, p, 1 - p), axis=1))
    sums = Engine().expectation(Rows(values, np.zeros(5)), family.natural(parameters))
    assert sums.log_likelihood[0] == pytest.approx(total, abs=1e-10)


def test_without_pseudo_counts_impossible_bits_are_very_unlikely_not_nan() -> None:
    values = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    family = BernoulliMixture(1, 2, ones=0.0, zeros=0.0)
    rows = Rows(values, np.zeros(2))
    fit = fit_mixture(family, rows, Engine(), Settings(start="random"), [0])
    assert fit.log_likelihood == pytest.approx(2 * np.log(2 / 3) + np.log(1 / 3), abs=1e-9)
    new = Rows(np.array([[1.0, 1.0]]), np.zeros(2))
    sums = Engine().expectation(new, family.natural(fit.parameters))
    assert sums.log_likelihood[0] < -1e4


def test_long_documents_do_not_underflow() -> None:
    values = 10_000 * np.eye(3)[[0, 0, 1, 2, 2]]
    family = MultinomialMixture(3, 3)
    outcome = fit_mixture(
        family, Rows(values, np.zeros(3)), Engine(), Settings(start="points"), list(range(5))
    )
    np.testing.assert_allclose(
        np.sort(outcome.parameters["weights"][0]), [0.2, 0.4, 0.4], atol=1e-6
    )


def test_plsa_is_nmf_with_the_kullback_leibler_objective() -> None:
    """Both climb the same function: neither's factors are better in the other's eyes."""
    from sklearn.decomposition import non_negative_factorization

    dense = counts().astype(float)
    generator = np.random.default_rng(0)
    topics, words = random_start(60, 40, 4, generator)
    ours = plsa(sp.csr_matrix(dense), topics, words, max_iter=2000, tol=1e-9)
    sizes = dense.sum(axis=1, keepdims=True)
    w, h, _ = non_negative_factorization(
        dense, W=sizes * topics, H=words.copy(), n_components=4, init="custom",
        beta_loss="kullback-leibler", solver="mu", max_iter=2000, tol=0.0,
    )  # fmt: skip
    mixed = w @ h
    mixed /= mixed.sum(axis=1, keepdims=True)
    theirs = float(np.sum(dense * np.log(np.maximum(mixed, 1e-300))))
    # both go to a maximum of the same function; ours, at least as far
    assert ours.log_likelihood >= theirs - 1e-3 * abs(theirs)
    # and our end is a fixed point of its update
    again, same, _ = non_negative_factorization(
        dense, W=sizes * ours.topics_of_documents, H=ours.words_of_topics.copy(), n_components=4,
        init="custom", beta_loss="kullback-leibler", solver="mu", max_iter=1, tol=0.0,
    )  # fmt: skip
    product = ours.topics_of_documents @ ours.words_of_topics
    np.testing.assert_allclose(again @ same, sizes * product, atol=1e-3)
    assert np.all(np.diff(ours.history) >= -1e-8)


def test_plsa_fold_in_keeps_the_words_and_climbs() -> None:
    matrix = sp.csr_matrix(counts().astype(float))
    topics, words = random_start(60, 40, 4, np.random.default_rng(0))
    fit = plsa(matrix, topics, words, 50)
    folded = plsa(matrix[:10], topics[:10], fit.words_of_topics, 50, fold_in=True)
    np.testing.assert_array_equal(folded.words_of_topics, fit.words_of_topics)
    assert folded.log_likelihood > folded.history[0]


@pytest.mark.slow
def test_ten_topics_of_the_ap_corpus(data_dir: Path) -> None:
    path = data_dir / "plsa" / "ap" / "ap.dat"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    matrix = read_counts(path)
    assert matrix.shape == (2246, 10473)
    assert matrix.sum() == 435838
    topics, words = random_start(2246, 10473, 10, np.random.default_rng(0))
    fit = plsa(matrix, topics, words, 100)
    assert fit.perplexity < 2360  # 100 iterations; 300 iterations give below 2291
