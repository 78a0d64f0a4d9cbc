"""`model=plsa`: topics of documents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.base import Metric
from kexue_cli.tasks.em.checks import check_counts, check_distinct
from kexue_cli.tasks.em.config import component_numbers
from kexue_cli.tasks.em.data import Table
from kexue_cli.tasks.em.plsa import PlsaFit, plsa, random_start
from kexue_cli.tasks.em.session import Session

FOLD_IN_ITERATIONS = 100


class PlsaModel:
    """pLSA with restarts; keywords are the fields of config.Plsa."""

    primary = Metric("perplexity", "min", "train")
    needs_variance = False

    def __init__(self, **settings: Any) -> None:
        self.settings = SimpleNamespace(**settings)
        self.n_components = component_numbers(self.settings.n_components)[0]
        self.words: np.ndarray  # p(word | topic), (K, words)
        self.topics: np.ndarray  # p(topic | document) of the fitted documents, (documents, K)
        self.vocabulary: list[str] = []
        self.fitted: dict[str, float] = {}
        self.fitted_table: Table | None = None  # in this run

    def fit(self, table: Table, session: Session) -> None:
        """Every restart to its end, the highest likelihood kept."""
        counts = self._counts(table)
        check_distinct(table, self.n_components)
        best: tuple[PlsaFit, int] | None = None
        for number, seed in enumerate(session.seeds(self.settings.n_init)):
            generator = np.random.default_rng(seed)
            topics, words = random_start(
                counts.shape[0], counts.shape[1], self.n_components, generator
            )
            fit = plsa(
                counts,
                topics,
                words,
                session.capped(self.settings.max_iter),
                self.settings.tol,
                on_iteration=lambda iteration, value: self._watch(value, session),
                engine=session.engine,
                stage=session.stage(f"restart {number}"),
            )
            if best is None or fit.log_likelihood > best[0].log_likelihood:
                best = fit, seed
        assert best is not None
        fit, seed = best
        self.words, self.topics = fit.words_of_topics, fit.topics_of_documents
        self.vocabulary, self.fitted_table = table.columns, table
        self.fitted = {
            "log_likelihood": fit.log_likelihood,
            "log_likelihood_per_row": fit.log_likelihood / table.total_weight,
            "perplexity": fit.perplexity,
            "iterations": fit.iterations,
            "n_components": self.n_components,
        }
        if not fit.converged:
            change = fit.history[-1] - fit.history[-2] if len(fit.history) > 1 else np.nan
            session.ctx.console.warn(
                f"stopped after {fit.iterations} iterations, the last raised the log-likelihood "
                f"by {change:.3g} nats; model.tol asks for {self.settings.tol:g}"
            )
        session.ctx.console.say(f"perplexity {fit.perplexity:.4f} (seed {seed})")
        session.ctx.console.table("topics", self.topic_rows())

    def _watch(self, log_likelihood: float, session: Session) -> None:
        session.log({"log_likelihood": log_likelihood, "marginal_nll": -log_likelihood})

    def _counts(self, table: Table) -> Any:
        """Counts times row weights: a document of weight 2 is two documents with equal topics."""
        check_counts(table)
        sparse = require("scipy.sparse", extra="em")
        counts = sparse.csr_matrix(table.values, dtype=np.float64)
        if table.weights is None:
            return counts
        if table.weights.min() <= 0:
            row = int(np.argmin(table.weights)) + 1
            raise UserError(f"{table.name}: row {row} has weight 0, which leaves its topics open")
        return sparse.csr_matrix(sparse.diags(table.weights) @ counts)

    def topic_rows(self) -> list[dict[str, Any]]:
        """Share and likeliest words of every topic, largest share first."""
        share = self.topics.mean(axis=0)
        rows = []
        for topic in np.argsort(-share):
            top = np.argsort(-self.words[topic])[: self.settings.top_words]
            words = " ".join(self.vocabulary[word] for word in top)
            rows.append({"topic": int(topic), "share": float(share[topic]), "words": words})
        return rows

    def evaluate(self, table: Table, session: Session, fitted_rows: bool) -> dict[str, float]:
        """Perplexity; topics of other documents are folded in, words kept.

        Folding in sees the very words it is scored on: a lower bound of the true perplexity.
        """
        if fitted_rows and self.fitted:
            return dict(self.fitted)
        fit = self._folded(table)
        return {"log_likelihood": fit.log_likelihood, "perplexity_folded_in": fit.perplexity}

    def _folded(self, table: Table) -> PlsaFit:
        counts = self._counts(table)
        if counts.shape[1] > self.words.shape[1]:
            raise UserError(
                f"{table.name}: {counts.shape[1]} words, the fit has {self.words.shape[1]}; use "
                "the same vocabulary"
            )
        counts.resize(counts.shape[0], self.words.shape[1])
        topics = np.full((counts.shape[0], self.n_components), 1.0 / self.n_components)
        return plsa(counts, topics, self.words, FOLD_IN_ITERATIONS, 1e-3, fold_in=True)

    def responsibilities(self, table: Table) -> np.ndarray:
        """p(topic | document), (documents, K)."""
        if table is self.fitted_table:
            return self.topics
        return self._folded(table).topics_of_documents

    def sample(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """No distribution over new documents: an error."""
        raise UserError("mode=generate: pLSA gives no distribution over documents to draw from")

    def means(self) -> np.ndarray:
        """p(word | topic), (K, words)."""
        return self.words

    def state_dict(self) -> dict[str, Any]:
        """Word distributions and the topics of the fitted documents."""
        return {
            "words": torch.from_numpy(self.words.copy()),
            "topics": torch.from_numpy(self.topics.copy()),
            "vocabulary": list(self.vocabulary),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.words, self.topics = state["words"].numpy(), state["topics"].numpy()
        self.vocabulary, self.n_components = list(state["vocabulary"]), len(self.words)
