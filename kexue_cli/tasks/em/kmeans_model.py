"""`model=kmeans`: restarts of Lloyd's algorithm, or the annealed mixture that tends to it."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.base import Metric
from kexue_cli.tasks.em.checks import check_distinct, check_not_tiny, check_values
from kexue_cli.tasks.em.config import component_numbers
from kexue_cli.tasks.em.data import Table, column_moments
from kexue_cli.tasks.em.kmeans import KMeansFit, inertia, lloyd, variance_of
from kexue_cli.tasks.em.kmeans_limit import AnnealedFit, annealed
from kexue_cli.tasks.em.kmeans_pass import obstacle
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.session import Session
from kexue_cli.tasks.em.starts import centres_of, start_means

PREDICT_ROWS = 20_000


class Kmeans:
    """K-Means with restarts; keywords are the fields of config.Kmeans."""

    primary = Metric("inertia", "min", "train")
    needs_variance = False

    def __init__(self, **settings: Any) -> None:
        self.settings = SimpleNamespace(**settings)
        self.n_components = component_numbers(self.settings.n_components)[0]
        self.centres: np.ndarray  # (K, d), relative to shift
        self.shift: np.ndarray
        self.fitted: dict[str, float] = {}
        self.path: AnnealedFit | None = None

    def fit(self, table: Table, session: Session) -> None:
        """Every restart to its end, the lowest inertia kept."""
        self._check(table)
        check_distinct(table, self.n_components)
        self.shift, variances = column_moments(table)
        check_not_tiny(table, variances)
        rows = Rows(table.values, self.shift, table.weights)
        if session.engine.device == "cpu" and (why := obstacle()) is not None:
            session.ctx.console.say(f"compares rows with centres in plain torch: {why}")
        restarts = 1 if self.settings.start == "given" else self.settings.n_init
        results = []
        for number, seed in enumerate(session.seeds(restarts)):
            start = session.stage(f"start {number}").once(partial(self._start, rows, seed))
            fit = lloyd(
                rows,
                start["centres"],
                session.capped(self.settings.max_iter),
                self.settings.tol,
                session.engine,
                lambda iteration, value, moved: session.log({"inertia": value, "moved": moved}),
                session.stage(f"restart {number}"),
            )
            results.append((fit.inertia, seed, fit))
        lowest = min(result[0] for result in results)
        # the first of those that rounding alone tells apart, whatever the units of the data
        _, seed, best = next(result for result in results if result[0] <= lowest * (1 + 1e-10))
        if self.settings.method == "annealed":
            self._anneal(rows, seed, session, best)
        else:
            self.centres = best.centres
        self._conclude(best, [result[0] for result in results], seed, session)

    def _check(self, table: Table) -> None:
        if not isinstance(table.values, np.ndarray):
            raise UserError(f"model=kmeans needs a table of numbers; {table.name} holds counts")
        check_values(table, gaps_allowed=False)

    def _start(self, rows: Rows, seed: int) -> dict[str, np.ndarray]:
        """Start centres (K, d), relative to the shift."""
        if self.settings.start == "given":
            given = start_means(self.settings.start_means)
            shape = (self.n_components, rows.values.shape[1])
            if given is None or given.shape != shape:
                raise UserError(
                    f"model.start=given needs model.start_means: a .csv or .npy of shape {shape}"
                )
            return {"centres": given - rows.shift}
        scale = np.ones(rows.values.shape[1])
        found = centres_of(self.settings.start, rows, scale, self.n_components, [seed])
        return {"centres": found[0]}

    def _anneal(self, rows: Rows, seed: int, session: Session, lowest: KMeansFit) -> None:
        """From nearly one common centre down to variance 0."""
        generator = np.random.default_rng(seed)
        nudge = 0.01 * generator.standard_normal((self.n_components, len(self.shift)))
        spread = np.sqrt(variance_of(rows, session.engine))
        settings = self.settings
        self.path = annealed(
            rows,
            nudge * spread,
            session.engine,
            settings.rate,
            settings.final_variance,
            on_step=lambda path: _log_last(path, session),
            stage=session.stage("annealing"),
        )
        self.centres = self.path.centres
        session.ctx.console.say(
            f"annealed inertia {self.path.inertia[-1]:.9g}; the best of Lloyd's restarts "
            f"{lowest.inertia:.9g}"
        )
        self.fitted["lloyd_inertia"] = lowest.inertia

    def _conclude(
        self, best: KMeansFit, inertias: list[float], seed: int, session: Session
    ) -> None:
        value = best.inertia if self.path is None else self.path.inertia[-1]
        self.fitted |= {"inertia": value, "iterations": best.iterations}
        self.fitted["n_components"] = self.n_components
        if not best.converged:
            session.ctx.console.warn(
                f"stopped after {best.iterations} iterations while rows still moved; raise "
                "model.max_iter"
            )
        reached = sum(other < best.inertia * (1 + 1e-6) for other in inertias)
        session.ctx.console.say(
            f"inertia {value:.9g} after {best.iterations} iterations; seed {seed}, "
            f"{reached} of {len(inertias)} restarts came as far"
        )

    def evaluate(self, table: Table, session: Session, fitted_rows: bool) -> dict[str, float]:
        """Inertia of a table."""
        if fitted_rows and self.fitted:
            return dict(self.fitted)
        rows = Rows(table.values, self.shift, table.weights)
        labels = self.responsibilities(table).argmax(axis=1)
        return {"inertia": inertia(rows, self.centres, labels, session.engine)}

    def responsibilities(self, table: Table) -> np.ndarray:
        """One for the nearest centre, zero for the others, (n, K)."""
        self._check(table)
        result = np.zeros((len(table), self.n_components), dtype=np.float32)
        for start in range(0, len(table), PREDICT_ROWS):
            part = table.values[start : start + PREDICT_ROWS]
            y = np.asarray(part, dtype=np.float64) - self.shift
            score = y @ self.centres.T - 0.5 * np.sum(self.centres**2, axis=1)
            result[np.arange(start, start + len(y)), score.argmax(axis=1)] = 1.0
        return result

    def sample(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """K-Means is no distribution."""
        raise UserError("mode=generate needs a mixture; K-Means gives no density to draw from")

    def means(self) -> np.ndarray:
        """Centres in the units of the data, (K, d)."""
        centres: np.ndarray = self.centres + self.shift
        return centres

    def state_dict(self) -> dict[str, Any]:
        """Centres and what they are relative to."""
        return {
            "centres": torch.from_numpy(self.centres.copy()),
            "shift": torch.from_numpy(self.shift.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.centres, self.shift = state["centres"].numpy(), state["shift"].numpy()
        self.n_components = len(self.centres)


def _log_last(path: AnnealedFit, session: Session) -> None:
    session.log(
        {
            "variance": path.variance[-1],
            "entropy_per_row": path.entropy_per_row[-1],
            "inertia": path.inertia[-1],
        }
    )
