"""Probabilistic latent semantic analysis by EM over the non-zeros of a document-word matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kexue_cli.extras import require
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.stage import Stage, State

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
    engine: Engine | None = None,
    stage: Stage | None = None,
) -> PlsaFit:
    """EM from p(z | d) `topics` (documents, K) and p(w | z) `words` (K, words).

    The same iteration minimises the generalised Kullback-Leibler divergence of a non-negative
    matrix factorisation (Gaussier and Goutte 2005). Each process of `engine` takes a part of the
    documents; all get the whole result.

    Args:
        counts: scipy sparse (documents, words), every document with at least one word.
        tol: nats of the total log-likelihood per iteration below which to stop.
        fold_in: keep `words` as they are: topics of new documents.

    Source: Hofmann, "Probabilistic latent semantic analysis", UAI 1999; kexue.fm post 4277.
    """
    engine, stage = engine or Engine(), stage or Stage()
    state = stage.state or {"topics": topics, "words": words, "history": [], "converged": False}
    share = _Share.of(counts, engine)
    topics, words, history = state["topics"][share.own], state["words"], list(state["history"])
    converged = bool(state["converged"])

    def kept() -> State:
        whole = partial(share.whole, topics)
        return {"topics": whole, "words": words, "history": history, "converged": converged}

    while len(history) < max_iter and not converged:
        stage.keep(kept())
        mixed = share.at_non_zeros(topics, words)
        history = [*history, share.total(share.counts.data @ np.log(mixed))]
        on_iteration(len(history) - 1, history[-1])
        converged = len(history) > 1 and abs(history[-1] - history[-2]) < tol
        if not converged:
            topics, words = share.updated(topics, words, mixed, fold_in)
    stage.keep(kept())
    final = share.total(share.counts.data @ np.log(share.at_non_zeros(topics, words)))
    perplexity = float(np.exp(-final / counts.sum()))
    return PlsaFit(share.whole(topics), words, final, perplexity, len(history), converged, history)


@dataclass
class _Share:
    """The documents of one process, and sums over all processes."""

    counts: Any  # scipy CSR, those of this process
    document: np.ndarray  # of every non-zero
    own: slice
    documents: int  # of all processes
    engine: Engine

    @classmethod
    def of(cls, counts: Any, engine: Engine) -> _Share:
        documents = counts.shape[0]
        ends = [documents * rank // engine.ranks for rank in (engine.rank, engine.rank + 1)]
        matrix = require("scipy.sparse", extra="em").csr_matrix(counts, dtype=np.float64)
        own = matrix[ends[0] : ends[1]]
        document = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
        return cls(own, document, slice(*ends), documents, engine)

    def at_non_zeros(self, topics: np.ndarray, words: np.ndarray) -> np.ndarray:
        """p(word | document) where the word occurs, (non-zeros,)."""
        return _at_non_zeros(topics, words, self.document, self.counts.indices)

    def updated(
        self, topics: np.ndarray, words: np.ndarray, mixed: np.ndarray, fold_in: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """One EM update of both factors; `words` stay as they are when folding in."""
        counts = self.counts
        ratio = type(counts)((counts.data / mixed, counts.indices, counts.indptr), counts.shape)
        new_topics = topics * (ratio @ words.T)
        if not fold_in:
            expected = self.engine.summed([(ratio.T @ topics).T])[0]
            words = words * expected
            words = words / np.maximum(words.sum(axis=1, keepdims=True), 1e-300)
        return new_topics / np.maximum(new_topics.sum(axis=1, keepdims=True), 1e-300), words

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        return float(self.engine.summed([np.array([value])])[0][0])

    def whole(self, topics: np.ndarray) -> np.ndarray:
        """Topics of the documents of all processes."""
        if self.engine.ranks == 1:
            return topics
        whole = np.zeros((self.documents, topics.shape[1]))
        whole[self.own] = topics
        return self.engine.summed([whole])[0]


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
