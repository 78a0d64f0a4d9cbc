"""Probabilistic latent semantic analysis by EM over the non-zeros of a document-word matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kexue_cli.extras import require

CHUNK = 1_000_000  # non-zeros whose topic probabilities are held at once


@dataclass
class PlsaFit:
    """p(word | document) = sum_z p(z | document) p(word | z).

    Attributes:
        topics_of_documents: (documents, K); words_of_topics: (K, words); rows sum to 1.
        log_likelihood: sum over tokens of log p(word | document), nats.
        perplexity: exp(-log_likelihood / tokens).
        history: log-likelihood before each update.
    """

    topics_of_documents: np.ndarray
    words_of_topics: np.ndarray
    log_likelihood: float
    perplexity: float
    iterations: int
    converged: bool
    history: list[float] = field(default_factory=list)


def plsa(
    counts: Any,
    topics: np.ndarray,
    words: np.ndarray,
    max_iter: int = 300,
    tol: float = 0.0,
    fold_in: bool = False,
    on_iteration: Callable[[int, float], None] = lambda iteration, log_likelihood: None,
) -> PlsaFit:
    """EM from p(z | d) `topics` (documents, K) and p(w | z) `words` (K, words).

    The same iteration minimises the generalised Kullback-Leibler divergence of a non-negative
    matrix factorisation (Gaussier and Goutte 2005).

    Args:
        counts: scipy sparse (documents, words), every document with at least one word.
        tol: nats of the total log-likelihood per iteration below which to stop.
        fold_in: keep `words` as they are: topics of new documents.

    Source: Hofmann, "Probabilistic latent semantic analysis", UAI 1999; kexue.fm post 4277.
    """
    sparse = require("scipy.sparse", extra="em")
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    tokens = counts.sum()
    document = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    history: list[float] = []
    converged = False
    for iteration in range(max_iter):
        mixed = _at_non_zeros(topics, words, document, counts.indices)
        history.append(float(counts.data @ np.log(mixed)))
        on_iteration(iteration, history[-1])
        if len(history) > 1 and abs(history[-1] - history[-2]) < tol:
            converged = True
            break
        ratio = sparse.csr_matrix(
            (counts.data / mixed, counts.indices, counts.indptr), counts.shape
        )
        new_topics = topics * (ratio @ words.T)
        if not fold_in:
            words = words * (ratio.T @ topics).T
            words = words / np.maximum(words.sum(axis=1, keepdims=True), 1e-300)
        topics = new_topics / np.maximum(new_topics.sum(axis=1, keepdims=True), 1e-300)
    final = log_likelihood(counts, topics, words)
    perplexity = float(np.exp(-final / tokens))
    return PlsaFit(topics, words, final, perplexity, len(history), converged, history)


def log_likelihood(counts: Any, topics: np.ndarray, words: np.ndarray) -> float:
    """Sum over tokens of log p(word | document), nats."""
    document = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    mixed = _at_non_zeros(topics, words, document, counts.indices)
    return float(counts.data @ np.log(mixed))


def _at_non_zeros(
    topics: np.ndarray, words: np.ndarray, document: np.ndarray, word: np.ndarray
) -> np.ndarray:
    """p(word | document) at the non-zeros, (non-zeros,), never below 1e-300."""
    by_word = np.ascontiguousarray(words.T)
    mixed = np.empty(len(document))
    for start in range(0, len(document), CHUNK):
        part = slice(start, start + CHUNK)
        np.einsum("nk,nk->n", topics[document[part]], by_word[word[part]], out=mixed[part])
    return np.maximum(mixed, 1e-300)


def random_start(
    documents: int, words: int, topics: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """p(z | d) flat on the simplex, p(w | z) near uniform."""
    of_documents = generator.dirichlet(np.ones(topics), size=documents)
    of_topics = generator.random((topics, words)) + 0.5
    return of_documents, of_topics / of_topics.sum(axis=1, keepdims=True)
