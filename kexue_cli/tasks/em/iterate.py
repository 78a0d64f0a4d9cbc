"""The EM iteration: any family, R restarts at once, the post's two terms after every half step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.natural import (
    Natural,
    Parameters,
    Statistics,
    joint_divergence,
)
from kexue_cli.tasks.em.rows import Mode
from kexue_cli.tasks.em.stage import Stage, State

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
        seeds: one per restart, for the nudges of annealing; by default their numbers.
        race: after 10, 20, 40, 80 ... iterations, annealing not counted, drop restarts not among
            the best 71, 50, 35, 25 ... per cent of all, converged ones included (twice the
            iterations, half the square); those with a collapsed component count as worst.
    """

    max_iter: int = 1000
    tol: float = 1e-6
    stop: Literal["change", "aitken"] = "change"
    mode: Mode = "soft"
    inverse_temperatures: tuple[float, ...] = ()
    race: bool = False
    seeds: tuple[int, ...] = ()


@dataclass
class Trace:
    """One iteration of one restart; nats of the data, not per row.

    `iteration` counts on where an earlier `iterate` of the same restart ended.
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
    """R restarts under way or at their end; `active` names those under way."""

    parameters: Parameters
    log_likelihood: np.ndarray  # (R,)
    objective: np.ndarray  # (R,), with log prior
    change: np.ndarray  # (R,), of the objective in the last iteration
    count: np.ndarray  # (R, K)
    entropy: np.ndarray  # (R,), of the responsibilities
    iterations: np.ndarray  # (R,)
    converged: np.ndarray  # (R,) bool
    last_change: np.ndarray  # (R,), what was compared with tol
    raced_out: np.ndarray  # (R,) bool
    active: np.ndarray  # numbers of restarts

    @classmethod
    def starting(cls, parameters: Parameters) -> Fit:
        """All restarts at their start."""
        restarts, components = parameters["weights"].shape
        return cls(
            {name: array.copy() for name, array in parameters.items()},
            np.full(restarts, -np.inf),
            np.full(restarts, -np.inf),
            np.full(restarts, np.inf),
            np.zeros((restarts, components)),
            np.zeros(restarts),
            np.zeros(restarts, dtype=np.int64),
            np.zeros(restarts, dtype=bool),
            np.full(restarts, np.inf),
            np.zeros(restarts, dtype=bool),
            np.arange(restarts),
        )

    def reopened(self) -> Fit:
        """To be iterated further, but for the restarts that a race has dropped."""
        fit = copy.deepcopy(self)
        fit.active = np.flatnonzero(~fit.raced_out)
        fit.objective[fit.active], fit.change[fit.active] = -np.inf, np.inf
        return fit


def take(parameters: Parameters, restarts: np.ndarray) -> Parameters:
    """The same parameters of some restarts only."""
    return {name: array[restarts] for name, array in parameters.items()}


def _put(parameters: Parameters, restarts: np.ndarray, values: Parameters) -> None:
    for name, array in values.items():
        parameters[name][restarts] = array


def iterate(
    family: Family,
    expectation: Expectation,
    start: Parameters | Fit,
    how: Iteration,
    on_iteration: Callable[[Trace, Parameters], None] = lambda trace, parameters: None,
    stage: Stage | None = None,
) -> Fit:
    """Run EM from `start` until every restart has converged, or max_iter.

    `on_iteration` is called for every active restart, with the parameters of all restarts. Restarts
    that have converged leave the batch. An E-step measures the parameters it uses, so the
    numbers of `Fit` belong exactly to `Fit.parameters`. With a stage that was stopped, goes on
    from there and leaves `start` alone.
    """
    stage = stage or Stage()
    fit = start if isinstance(start, Fit) else Fit.starting(start)
    first = 0
    if stage.state is None:
        natural = family.natural(take(fit.parameters, fit.active))
    else:
        fit, natural, first = _restored(stage.state)
    for iteration in range(first, how.max_iter + 1):
        if len(fit.active) == 0:
            break
        stage.keep(_kept(fit, natural, iteration))
        beta = _at(how.inverse_temperatures, iteration)
        sums = expectation(natural if beta == 1 else natural.scaled(beta), how.mode, iteration)
        natural = _advance(fit, family, natural, sums, beta, how, iteration, on_iteration)
    stage.keep(_kept(fit, natural, how.max_iter + 1))
    return fit


def _advance(
    fit: Fit,
    family: Family,
    natural: Natural,
    sums: Statistics,
    beta: float,
    how: Iteration,
    iteration: int,
    on_iteration: Callable[[Trace, Parameters], None],
) -> Natural:
    """Measure, maximise, let go of what is done; the natural parameters of those that stay."""
    active = fit.active
    fit.log_likelihood[active] = sums.log_likelihood / beta + natural.offset
    fit.count[active], fit.entropy[active] = sums.count, sums.entropy
    settled = _settled(fit, family, how, iteration)
    done = settled if iteration < how.max_iter else np.ones_like(settled)
    leaving = done | _outrun(fit, family, how, iteration)
    following = family.maximise(sums, take(fit.parameters, active))
    next_natural = family.natural(following)
    for trace in _traces(fit, natural, next_natural, sums, beta, family, following):
        on_iteration(trace, fit.parameters)
    if beta < 1:
        seeds = [how.seeds[r] if how.seeds else int(r) for r in active]
        following = family.nudged(following, _noise(following["means"].shape, seeds, iteration))
        next_natural = family.natural(following)
    staying = np.flatnonzero(~leaving)
    fit.active = active[staying]
    _put(fit.parameters, fit.active, take(following, staying))
    fit.iterations[fit.active] += 1
    return next_natural.take(staying)


def _noise(shape: tuple[int, ...], seeds: list[int], iteration: int) -> np.ndarray:
    """Standard normal (R, K, d). At high temperature components merge, and EM as such never parts
    what is equal: each restart is nudged in its own way.
    """
    generators = [np.random.default_rng((iteration, seed)) for seed in seeds]
    return np.stack([generator.standard_normal(shape[1:]) for generator in generators])


def _kept(fit: Fit, natural: Natural, iteration: int) -> State:
    """All that the next iteration depends on."""
    return {"fit": vars(fit), "natural": vars(natural), "iteration": iteration}


def _restored(state: State) -> tuple[Fit, Natural, int]:
    return Fit(**state["fit"]), Natural(**state["natural"]), int(state["iteration"])


def _at(schedule: tuple[float, ...], iteration: int) -> float:
    return schedule[iteration] if iteration < len(schedule) else 1.0


def _settled(fit: Fit, family: Family, how: Iteration, iteration: int) -> np.ndarray:
    """Which active restarts have converged; keeps their objective and its change."""
    active = fit.active
    prior = family.log_prior(take(fit.parameters, active))
    objective = fit.log_likelihood[active] + prior
    before = fit.change[active]
    with np.errstate(invalid="ignore"):
        change = objective - fit.objective[active]
    fit.objective[active], fit.change[active] = objective, change
    distance = np.abs(change)
    if how.stop == "aitken":
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


def _outrun(fit: Fit, family: Family, how: Iteration, iteration: int) -> np.ndarray:
    """Which active restarts a race drops at iterations 10, 20, 40 ... (see Iteration.race)."""
    active = fit.active
    iteration -= len(how.inverse_temperatures)  # while hot, likelihoods tell nothing apart
    rounds = iteration // 10
    at_round = iteration > 0 and iteration % 10 == 0 and rounds & (rounds - 1) == 0
    if not (how.race and at_round):
        return np.zeros(len(active), dtype=bool)
    standing = np.flatnonzero(~fit.raced_out)
    spikes = family.collapsed(take(fit.parameters, standing), fit.count[standing]).any(axis=1)
    order = standing[np.lexsort((-fit.objective[standing], spikes))]
    places = math.ceil(len(fit.objective) / math.sqrt(2 * rounds))
    dropped: np.ndarray = ~np.isin(active, order[:places])
    fit.raced_out[active[dropped]] = True
    return dropped


def _traces(
    fit: Fit,
    natural: Natural,
    next_natural: Natural,
    sums: Statistics,
    beta: float,
    family: Family,
    following: Parameters,
) -> Iterator[Trace]:
    """The two terms of every active restart."""
    active = fit.active
    part = replace(sums, entropy=sums.entropy / beta)
    prior = fit.objective[active] - fit.log_likelihood[active]
    after_e = joint_divergence(natural, part) - prior
    after_m = joint_divergence(next_natural, part) - family.log_prior(following)
    for place, restart in enumerate(active):
        marginal = -float(fit.objective[restart])
        yield Trace(
            int(fit.iterations[restart]),
            int(restart),
            float(fit.log_likelihood[restart]),
            marginal,
            float(after_e[place]),
            float(after_e[place]) - marginal,
            float(after_m[place]),
            float(fit.last_change[restart]),
        )
