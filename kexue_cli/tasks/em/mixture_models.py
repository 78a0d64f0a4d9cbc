"""The mixtures a user names: from a table to a chosen fit, and what is kept of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.base import Metric
from kexue_cli.tasks.em import missing
from kexue_cli.tasks.em.bootstrap import bootstrap_tests
from kexue_cli.tasks.em.checks import check_distinct, check_values
from kexue_cli.tasks.em.config import component_numbers
from kexue_cli.tasks.em.data import Table
from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.fitting import Outcome, Settings, fit_mixture, measured
from kexue_cli.tasks.em.mixture_report import compare, say, summary, warn
from kexue_cli.tasks.em.natural import log_joint, log_sum_exp
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.session import Session
from kexue_cli.tasks.em.starts import start_means

PREDICT_ROWS = 20_000  # rows whose responsibilities are held at once
# Restarts race, unless told otherwise, from so many rows on, or from so many numbers (rows times
# columns times components): below, ten restarts as one batch cost less than six alone.
RACE_ROWS, RACE_WORK = 10_000, 150_000


def races(rows: Rows, components: int) -> bool:
    """Whether restarts on these rows race by default."""
    return len(rows) >= RACE_ROWS or rows.values.size * components >= RACE_WORK


@dataclass
class Candidate:
    """One number of components with one covariance model ("" for models without)."""

    components: int
    covariance: str = ""


class MixtureModel(ABC):
    """Base of the mixtures fitted by `fitting.fit_mixture`; keywords are the fields of its config.

    After `fit` or `load_state_dict`, `chosen` is the fit in use, `covariance` its model, `shift`
    what its parameters are relative to.
    """

    primary = Metric("log_likelihood_per_row", "max", "train")
    needs_variance = False  # in every column

    def __init__(self, **settings: Any) -> None:
        self.settings = SimpleNamespace(**settings)
        self.chosen: Outcome
        self.covariance = ""
        self.chosen_path = (0, 0)  # number of the fit in the session, and of the restart
        self.shift: np.ndarray
        self.columns: list[str] = []
        self.comparison: list[dict[str, Any]] = []
        self.tests: list[dict[str, float]] = []
        self.hidden_labels: np.ndarray | None = None  # rows whose label the fit did not see

    # what a model of its own adds

    def takes_gaps(self) -> bool:
        """Whether rows may hold NaN."""
        return False

    @abstractmethod
    def values(self, table: Table) -> Any:
        """The table's values as this model counts them; raises UserError where it cannot."""

    def learn_columns(self, table: Table, rows: Rows) -> None:
        """Look at the columns once, before families are made; may set `rows.shift`."""

    @abstractmethod
    def family(self, candidate: Candidate, rows: Rows) -> Family:
        """The family of a candidate for these rows."""

    def candidates(self) -> list[Candidate]:
        """Everything the settings ask to be tried."""
        return [Candidate(k) for k in component_numbers(self.settings.n_components)]

    # the story

    def fit(self, table: Table, session: Session) -> None:
        """Fit every candidate, keep the one the criterion prefers."""
        rows = self.rows(table, session)
        candidates = self.candidates()
        best: tuple[bool, float] | None = None
        outcomes: dict[int, Outcome] = {}
        for candidate in candidates:
            outcome = self.fit_one(candidate, rows, session)
            outcomes[candidate.components] = outcome
            self._report(candidate, outcome, session, alone=len(candidates) == 1)
            score = (bool(outcome.collapsed.any()), getattr(outcome, self.settings.criterion))
            if best is None or score < best:
                best, self.chosen, self.covariance = score, outcome, candidate.covariance
                self.chosen_path = (session.fit, outcome.restart)
        if len(candidates) > 1:
            compare(self.comparison, self.settings.criterion, session)
        if self.settings.bootstrap:
            self._test(outcomes, rows, session)
        session.complain_of_rises(getattr(self.settings, "reg_covar", 0.0))

    def rows(self, table: Table, session: Session) -> Rows:
        """The table as rows of this model, checked, columns learnt, given labels chosen."""
        rows = Rows(self.values(table), np.zeros(len(table.columns)), table.weights)
        self.check(table, rows, session)
        self.learn_columns(table, rows)
        self.shift, self.columns = rows.shift, table.columns
        if self.settings.known_labels > 0:
            rows.labels = self._given_labels(table, session)
        return rows

    def check(self, table: Table, rows: Rows, session: Session) -> None:
        """Note gaps in `rows`; raise UserError for values or sizes that cannot be fitted."""
        gaps = check_values(table, self.takes_gaps())
        if gaps:
            rows.gaps = "hidden"
            share = gaps / (len(table) * len(table.columns))
            session.ctx.console.say(
                f"{gaps} missing values ({share:.1%}): hidden like the component"
            )
        counted = replace(table, values=rows.values)  # bits: as they are cut
        check_distinct(counted, max(candidate.components for candidate in self.candidates()))

    def fit_one(self, candidate: Candidate, rows: Rows, session: Session) -> Outcome:
        """Restarts of one candidate, the best of them."""
        session.begin()
        if candidate.components == 1 or self.settings.start == "given":
            seeds = session.seeds(1)
        else:
            seeds = session.seeds(self.settings.n_init)
        engine = replace(session.engine, dtype=self.settings.dtype)
        family = self.family(candidate, rows)
        settings = self.fit_settings(session, rows, candidate.components)
        return fit_mixture(family, rows, engine, settings, seeds, session.watch, session.stage)

    def fit_settings(self, session: Session, rows: Rows, components: int) -> Settings:
        """Our configuration as a fit of these rows wants it.

        Weights that sum to less than the number of rows make the likelihood as much smaller, and
        the change of it that counts as convergence.
        """
        s = self.settings
        return Settings(
            s.start,
            s.n_init,
            session.capped(s.max_iter),
            s.tol / rows.rows_per_weight,
            s.stop,
            s.algorithm,
            s.annealing,
            races(rows, components) if s.race is None else s.race,
            s.batch_rows,
            start_means(s.start_means) if s.start == "given" else None,
            self.start_scale(),
        )

    def start_scale(self) -> np.ndarray | None:
        """Units of distances between rows, for starts."""
        return None

    def _given_labels(self, table: Table, session: Session) -> np.ndarray:
        """Labels for the fit: a random share of those known, -1 elsewhere."""
        if table.labels is None:
            raise UserError(
                f"model.known_labels={self.settings.known_labels}, but {table.name} has no labels; "
                "name their column by data.label"
            )
        fewest = min(candidate.components for candidate in self.candidates())
        if len(table.classes) > fewest:
            raise UserError(
                f"{len(table.classes)} known classes, but model.n_components={fewest}; each class "
                "needs a component of its own"
            )
        chance = session.ctx.seeds.numpy("known labels").random(len(table))
        given = (chance < self.settings.known_labels) & (table.labels >= 0)
        self.hidden_labels = np.where(given, -1, table.labels)
        session.ctx.console.say(f"{int(given.sum())} labels given to the fit")
        return np.where(given, table.labels, -1)

    def _report(
        self, candidate: Candidate, outcome: Outcome, session: Session, alone: bool
    ) -> None:
        name = f"K={candidate.components} {candidate.covariance}".strip()
        self.comparison.append(summary(candidate.components, candidate.covariance, outcome))
        warn(name, outcome, self.columns, self.settings, session.ctx.console)
        if alone:
            say(name, outcome, session.ctx.console)

    def _test(self, outcomes: dict[int, Outcome], rows: Rows, session: Session) -> None:
        covariance = self.candidates()[0].covariance

        def fit_again(family: Family, values: np.ndarray, resample: int) -> Outcome:
            fresh = Rows(values, np.zeros(values.shape[1]))
            again = self.family(Candidate(family.n_components, covariance), fresh)
            names = [f"resample {resample} restart {i}" for i in range(3)]
            seeds = [session.ctx.seeds.integer(name) for name in names]
            settings = self.fit_settings(session, fresh, family.n_components)
            return fit_mixture(again, fresh, session.engine, settings, seeds)

        self.tests = bootstrap_tests(outcomes, fit_again, self.settings.bootstrap, session)

    # what is asked of a fit

    def evaluate(self, table: Table, session: Session, fitted_rows: bool) -> dict[str, float]:
        """Log-likelihood and criteria of a table under the chosen fit."""
        rows = Rows(self.values(table), self.shift, table.weights)
        if check_values(table, self.takes_gaps(), empty_allowed=not fitted_rows):
            rows.gaps = "hidden"
        if fitted_rows and self.chosen.n > 0:
            outcome = self.chosen
        else:
            outcome = measured(
                self.chosen.family, rows, session.engine, self.chosen.parameters, same_rows=False
            )
        metrics = outcome.metrics()
        if fitted_rows:
            return metrics
        return {name: metrics[name] for name in ("log_likelihood", "log_likelihood_per_row")}

    def responsibilities(self, table: Table) -> np.ndarray:
        """p(component | row), (n, K)."""
        check_values(table, self.takes_gaps(), empty_allowed=True)
        natural = self.chosen.family.natural(self.chosen.parameters, reduced=False)
        values = self.values(table)
        blocks = []
        for start in range(0, len(table), PREDICT_ROWS):
            block = values[start : start + PREDICT_ROWS]
            if isinstance(block, np.ndarray):
                block = np.asarray(block, dtype=np.float64) - self.shift
                if np.isnan(block).any():
                    logits = missing.log_joint(block, natural)
                else:
                    logits = log_joint(natural, block)
            else:
                logits = block @ natural.linear[0].T + natural.constant[0]
            blocks.append(np.exp(logits - log_sum_exp(logits)[:, None]))
        return np.concatenate(blocks)

    def sample(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows in the units of the data: rows (n, d), components (n,)."""
        rows, labels = self.chosen.family.sample(self.chosen.parameters, n, generator)
        return rows + self.shift, labels

    def means(self) -> np.ndarray:
        """Component means in the units of the data, (K, d)."""
        return self.chosen.parameters["means"][0] + self.shift

    def state_dict(self) -> dict[str, Any]:
        """Parameters and what `family` needs to use them."""
        parameters = {
            name: torch.from_numpy(a.copy()) for name, a in self.chosen.parameters.items()
        }
        return {
            "parameters": parameters,
            "shift": torch.from_numpy(self.shift),
            "covariance": self.covariance,
            "metrics": self.chosen.metrics() | {"n": self.chosen.n, "entropy": self.chosen.entropy},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.shift, self.covariance = state["shift"].numpy(), state["covariance"]
        parameters = {name: tensor.numpy() for name, tensor in state["parameters"].items()}
        components, columns = parameters["means"].shape[1:]
        bare = Rows(np.eye(columns), np.zeros(columns))  # the family only scores from here on
        family = self.family(Candidate(components, self.covariance), bare)
        metrics = state["metrics"]
        self.chosen = Outcome(
            family,
            parameters,
            metrics["log_likelihood"],
            metrics["log_likelihood"],
            0.0,  # of rows unknown here: evaluate measures afresh
            np.zeros(components),
            0.0,
            int(metrics["iterations"]),
            True,
            0.0,
            0,
            0,
            np.zeros(components, dtype=bool),
        )
