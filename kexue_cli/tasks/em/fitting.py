"""One mixture from start to finish: restarts, the iteration of choice, the best kept, criteria."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.incremental import incremental
from kexue_cli.tasks.em.iterate import Fit, Iteration, Trace, iterate, take
from kexue_cli.tasks.em.natural import Natural, Parameters, Statistics
from kexue_cli.tasks.em.rows import Mode, Rows
from kexue_cli.tasks.em.stage import Stage
from kexue_cli.tasks.em.starts import Start, start_parameters

STOCHASTIC_ITERATIONS = 200  # of stochastic EM before plain EM polishes


@dataclass
class Settings:
    """What one fit needs beside family and rows; names as in config.Mixture."""

    start: Start = "k-means++"
    n_init: int = 10
    max_iter: int = 2000
    tol: float = 1e-6
    stop: str = "change"
    algorithm: str = "em"
    annealing: int = 0
    race: bool = False
    batch_rows: int | None = None
    start_means: np.ndarray | None = None
    scale: np.ndarray | None = None  # (d,), for distances of the start

    def iteration(self) -> Iteration:
        """The same for `iterate`."""
        temperatures = tuple(np.geomspace(0.1, 1.0, self.annealing + 1)[:-1])
        mode: Mode = "hard" if self.algorithm == "hard" else "soft"
        stop = "aitken" if self.stop == "aitken" else "change"
        return Iteration(self.max_iter, self.tol, stop, mode, temperatures, self.race)  # type: ignore[arg-type]


@dataclass
class Outcome:
    """The best restart, measured by one last E-step.

    Attributes:
        parameters: of one restart, (1, ...).
        n: total weight of the rows; log_likelihood in nats, of all rows.
        classification_log_likelihood: of rows together with their likeliest component.
        collapsed: (K,), components that are spikes of density.
        restarts: one dict per restart, for the table of starts.
    """

    family: Family
    parameters: Parameters
    log_likelihood: float
    classification_log_likelihood: float
    n: float
    count: np.ndarray
    entropy: float
    iterations: int
    converged: bool
    last_change: float
    restart: int
    seed: int
    collapsed: np.ndarray
    restarts: list[dict[str, float]] = field(default_factory=list)

    @property
    def bic(self) -> float:
        """-2 log L + parameters log n: lower is better (mclust prints the negative)."""
        return -2 * self.log_likelihood + self.family.n_parameters * float(np.log(self.n))

    @property
    def aic(self) -> float:
        """-2 log L + 2 parameters: lower is better."""
        return -2 * self.log_likelihood + 2 * self.family.n_parameters

    @property
    def icl(self) -> float:
        """BIC with the likelihood of rows and their likeliest components together, as mclust's."""
        extra = self.log_likelihood - self.classification_log_likelihood
        return self.bic + 2 * extra

    def metrics(self) -> dict[str, float]:
        """What the run reports of the rows it was fitted to."""
        return {
            "log_likelihood": self.log_likelihood,
            "log_likelihood_per_row": self.log_likelihood / self.n,
            "bic": self.bic,
            "aic": self.aic,
            "icl": self.icl,
            "n_parameters": self.family.n_parameters,
            "n_components": self.family.n_components,
            "iterations": self.iterations,
        }


OnIteration = Callable[[Trace, Parameters], None]
Stages = Callable[[str], Stage]  # by name


def fit_mixture(
    family: Family,
    rows: Rows,
    engine: Engine,
    settings: Settings,
    seeds: list[int],
    on_iteration: OnIteration = lambda trace, parameters: None,
    stages: Stages = lambda name: Stage(),
) -> Outcome:
    """Start once per seed, iterate all restarts as one batch, keep the best.

    Restarts with a collapsed component come after all others, whatever their likelihood: it has no
    upper bound there.
    """
    parameters = stages("start").once(
        lambda: start_parameters(
            settings.start, family, rows, engine, seeds, settings.start_means, settings.scale
        )
    )
    fit = _iterated(family, rows, engine, settings, seeds, parameters, on_iteration, stages)
    collapsed = family.collapsed(fit.parameters, fit.count)
    order = np.lexsort((-_without_ties(fit.objective), collapsed.any(axis=1), fit.raced_out))
    best = int(order[0])
    outcome = measured(family, rows, engine, take(fit.parameters, order[:1]))
    outcome.iterations, outcome.converged = int(fit.iterations[best]), bool(fit.converged[best])
    outcome.last_change = float(fit.last_change[best])
    outcome.restart, outcome.seed = best, seeds[min(best, len(seeds) - 1)]
    outcome.restarts = [
        {
            "restart": restart,
            "seed": seeds[min(restart, len(seeds) - 1)],
            "log_likelihood": float(fit.log_likelihood[restart]),
            "iterations": int(fit.iterations[restart]),
            "converged": bool(fit.converged[restart]),
            "collapsed_components": int(collapsed[restart].sum()),
            "raced_out": bool(fit.raced_out[restart]),
        }
        for restart in range(len(fit.objective))
    ]
    return outcome


def _without_ties(objective: np.ndarray) -> np.ndarray:
    """The same, equal where only rounding differs: the first of equal restarts is kept, whatever
    the units of the data.
    """
    return np.round(objective - objective.max(), 9) if len(objective) else objective


def _iterated(
    family: Family,
    rows: Rows,
    engine: Engine,
    settings: Settings,
    seeds: list[int],
    parameters: Parameters,
    on_iteration: OnIteration,
    stages: Stages,
) -> Fit:
    """The iteration that `settings` ask for, always ended by plain float64 (or hard) steps."""
    how = replace(settings.iteration(), seeds=tuple(seeds))
    step = expectation_of(rows, engine)
    if settings.algorithm == "stochastic":
        drawn = replace(how, mode="stochastic", max_iter=min(STOCHASTIC_ITERATIONS, how.max_iter))
        parameters = iterate(
            family, step, parameters, drawn, stage=stages("stochastic EM")
        ).parameters
    if settings.batch_rows is not None:
        batches = rows.slices(settings.batch_rows)

        def batch_step(natural: Natural, batch: int) -> Statistics:
            return engine.expectation(rows, natural, slices=[batches[batch]])

        parameters, _ = incremental(
            family, batch_step, len(batches), parameters, how, stages("incremental EM")
        )
    start: Parameters | Fit = parameters
    if engine.dtype == "float32":
        # most of the way in float32, then on in float64: fast, and right in the end
        single = iterate(family, step, parameters, how, on_iteration, stages("float32"))
        start, engine = single.reopened(), _in_float64(engine)
    return iterate(
        family, expectation_of(rows, engine), start, how, on_iteration, stages("float64")
    )


def _in_float64(engine: Engine) -> Engine:
    return replace(engine, dtype="float64", device=engine.float64_device())


def expectation_of(rows: Rows, engine: Engine) -> Callable[[Natural, Mode, int], Statistics]:
    """The E-step for these rows, as `iterate` wants it."""

    def step(natural: Natural, mode: Mode, iteration: int) -> Statistics:
        return engine.expectation(rows, natural, mode, (iteration,))

    return step


def measured(
    family: Family,
    rows: Rows,
    engine: Engine,
    parameters: Parameters,
    same_rows: bool = True,
) -> Outcome:
    """One E-step with one restart's parameters; `same_rows`: those the family was made for."""
    natural = family.natural(parameters, reduced=same_rows)
    step = expectation_of(rows, _in_float64(engine) if engine.dtype == "float32" else engine)
    soft, hard = step(natural, "soft", 0), step(natural, "hard", 0)
    return Outcome(
        family,
        parameters,
        float((soft.log_likelihood + natural.offset)[0]),
        float((hard.log_likelihood + natural.offset)[0]),
        rows.total_weight,
        soft.count[0],
        float(soft.entropy[0]),
        0,
        True,
        0.0,
        0,
        0,
        family.collapsed(parameters, soft.count)[0],
    )
