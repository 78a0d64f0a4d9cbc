"""The EM iteration: any family, R restarts at once, the post's two terms after every half step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from kexue_cli.tasks.em.engine import Mode
from kexue_cli.tasks.em.natural import (
    Natural,
    Parameters,
    Statistics,
    joint_divergence,
)


class Family(Protocol):
    """What the iteration needs to know of a mixture."""

    n_components: int

    @property
    def n_parameters(self) -> int:
        """Free parameters."""

    @property
    def columns(self) -> int:
        """Number of columns, d."""

    def second_shape(self) -> tuple[int, ...] | None:
        """Shape after (R, K) of the second moments it needs; None: none."""

    def maximise(self, sums: Statistics, previous: Parameters | None = None) -> Parameters:
        """M-step."""

    def from_centres(self, centres: np.ndarray, overall: np.ndarray | None) -> Parameters | None:
        """Start parameters from centres (R, K, d), if centres are enough to say."""

    def natural(self, parameters: Parameters, reduced: bool = True) -> Natural:
        """What the E-step needs."""

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """Log of the prior's terms that depend on parameters, (R,)."""

    def collapsed(self, parameters: Parameters, count: np.ndarray) -> np.ndarray:
        """Which components are spikes of density, (R, K)."""

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows of the first restart, and their components."""


Expectation = Callable[[Natural, Mode, int], Statistics]  # (parameters, mode, iteration) -> sums


@dataclass
class Iteration:
    """How long and in which way to iterate.

    Attributes:
        tol: nats of the total penalised log-likelihood per iteration below which a restart stops.
        stop: `change` compares iterations; `aitken` compares with the limit that Aitken's
            acceleration extrapolates (Boehning et al. 1994), which a slow climb does not fool.
        mode: soft (EM), hard (classification EM), stochastic (one draw per row).
        inverse_temperatures: of deterministic annealing, one per iteration; 1 afterwards.
        race: after 10, 20, 40 ... iterations drop the worse half of the restarts.
    """

    max_iter: int = 1000
    tol: float = 1e-6
    stop: Literal["change", "aitken"] = "change"
    mode: Mode = "soft"
    inverse_temperatures: tuple[float, ...] = ()
    race: bool = False


@dataclass
class Trace:
    """One iteration of one restart; nats of the data, not per row.

    `joint` is KL of the joint distributions up to the data's entropy, `marginal` the negative
    log-likelihood (both with the prior's term, if any), `gap` = joint - marginal.
    """

    iteration: int
    restart: int
    log_likelihood: float
    marginal: float
    joint_after_e: float
    gap_after_e: float
    joint_after_m: float
    change: float


@dataclass
class Fit:
    """The end of an iteration of R restarts."""

    parameters: Parameters
    log_likelihood: np.ndarray  # (R,)
    objective: np.ndarray  # (R,), with log prior
    count: np.ndarray  # (R, K)
    entropy: np.ndarray  # (R,), of the responsibilities
    iterations: np.ndarray  # (R,)
    converged: np.ndarray  # (R,) bool
    last_change: np.ndarray  # (R,)
    raced_out: np.ndarray  # (R,) bool
    history: list[np.ndarray] = field(default_factory=list)  # objective (R,) after each iteration


def take(parameters: Parameters, restarts: np.ndarray) -> Parameters:
    """The same parameters of some restarts only."""
    return {name: array[restarts] for name, array in parameters.items()}


def _put(parameters: Parameters, restarts: np.ndarray, values: Parameters) -> None:
    for name, array in values.items():
        parameters[name][restarts] = array


def iterate(
    family: Family,
    expectation: Expectation,
    parameters: Parameters,
    how: Iteration,
    on_iteration: Callable[[Trace, Parameters], None] = lambda trace, parameters: None,
) -> Fit:
    """Run EM from `parameters` until every restart has converged, or max_iter.

    `on_iteration` is called for every active restart, with the parameters of all restarts. Restarts
    that have converged leave the batch. An E-step measures the parameters it uses, so the
    numbers of `Fit` belong exactly to `Fit.parameters`.
    """
    restarts, components = parameters["weights"].shape
    parameters = {name: array.copy() for name, array in parameters.items()}
    fit = Fit(
        parameters,
        np.full(restarts, -np.inf),
        np.full(restarts, -np.inf),
        np.zeros((restarts, components)),
        np.zeros(restarts),
        np.zeros(restarts, dtype=int),
        np.zeros(restarts, dtype=bool),
        np.full(restarts, np.inf),
        np.zeros(restarts, dtype=bool),
    )
    active = np.arange(restarts)
    natural = family.natural(parameters)
    for iteration in range(how.max_iter + 1):
        beta = _at(how.inverse_temperatures, iteration)
        sums = expectation(natural if beta == 1 else natural.scaled(beta), how.mode, iteration)
        objective = _measure(fit, active, family, natural, sums, beta)
        settled = _settled(fit, active, objective, how, iteration)
        fit.history.append(fit.objective.copy())
        done = settled if iteration < how.max_iter else np.ones_like(settled)
        leaving = done | _outrun(fit, active, how, iteration)
        following = family.maximise(sums, take(parameters, active))
        next_natural = family.natural(following)
        for trace in _traces(
            fit, active, iteration, natural, next_natural, sums, beta, family, following
        ):
            on_iteration(trace, fit.parameters)
        staying = np.flatnonzero(~leaving)
        if len(staying) == 0:
            break
        active = active[staying]
        _put(parameters, active, take(following, staying))
        fit.iterations[active] += 1
        natural = next_natural.take(staying)
    return fit


def _at(schedule: tuple[float, ...], iteration: int) -> float:
    return schedule[iteration] if iteration < len(schedule) else 1.0


def _measure(
    fit: Fit,
    active: np.ndarray,
    family: Family,
    natural: Natural,
    sums: Statistics,
    beta: float,
) -> np.ndarray:
    """Note what this E-step says of the parameters it used; the objective of active restarts."""
    fit.log_likelihood[active] = sums.log_likelihood / beta + natural.offset
    prior = family.log_prior(take(fit.parameters, active))
    objective: np.ndarray = fit.log_likelihood[active] + prior
    fit.count[active], fit.entropy[active] = sums.count, sums.entropy
    return objective


def _settled(
    fit: Fit, active: np.ndarray, objective: np.ndarray, how: Iteration, iteration: int
) -> np.ndarray:
    """Which active restarts have converged; keeps their change."""
    with np.errstate(invalid="ignore"):
        change = objective - fit.objective[active]
    fit.objective[active] = objective
    distance = np.abs(change)
    if how.stop == "aitken" and len(fit.history) >= 2:
        before = fit.history[-1][active] - fit.history[-2][active]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = change / before
            climbing = (ratio > 0) & (ratio < 1)
            distance = np.where(climbing, np.abs(change * ratio / (1 - ratio)), distance)
    fit.last_change[active] = distance
    still_cooling = iteration <= len(how.inverse_temperatures)
    if iteration == 0 or still_cooling or how.mode == "stochastic":
        return np.zeros(len(active), dtype=bool)
    fit.converged[active] = distance < how.tol
    return distance < how.tol


def _outrun(fit: Fit, active: np.ndarray, how: Iteration, iteration: int) -> np.ndarray:
    """Which active restarts a race drops: the worse half, at iterations 10, 20, 40 ..."""
    rounds = iteration // 10
    at_round = iteration > 0 and iteration % 10 == 0 and rounds & (rounds - 1) == 0
    dropped = np.zeros(len(active), dtype=bool)
    if how.race and at_round and len(active) > 1:
        order = np.argsort(-fit.objective[active], kind="stable")
        dropped[order[(len(active) + 1) // 2 :]] = True
        fit.raced_out[active[dropped]] = True
    return dropped


def _traces(
    fit: Fit,
    active: np.ndarray,
    iteration: int,
    natural: Natural,
    next_natural: Natural,
    sums: Statistics,
    beta: float,
    family: Family,
    following: Parameters,
) -> Iterator[Trace]:
    """The two terms of every active restart."""
    part = replace(sums, entropy=sums.entropy / beta)
    prior = fit.objective[active] - fit.log_likelihood[active]
    after_e = joint_divergence(natural, part) - prior
    after_m = joint_divergence(next_natural, part) - family.log_prior(following)
    for place, restart in enumerate(active):
        marginal = -float(fit.objective[restart])
        yield Trace(
            iteration,
            int(restart),
            float(fit.log_likelihood[restart]),
            marginal,
            float(after_e[place]),
            float(after_e[place]) - marginal,
            float(after_m[place]),
            float(fit.last_change[restart]),
        )
