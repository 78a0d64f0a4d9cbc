"""What a run says of its fits: a line, warnings, and the table of a choice among models."""

from __future__ import annotations

from typing import Any

import numpy as np

from kexue_cli.run.console import Console
from kexue_cli.tasks.em.fitting import Outcome
from kexue_cli.tasks.em.gaussian import GaussianMixture
from kexue_cli.tasks.em.session import Session

FLAT = 1e-6  # variance of a column within a component over its variance in all rows
SHOWN = ("n_components", "covariance", "log_likelihood", "n_parameters", "bic", "icl")


def summary(components: int, covariance: str, outcome: Outcome) -> dict[str, Any]:
    """A row of model_choice.csv."""
    return {
        "n_components": components,
        "covariance": covariance,
        "log_likelihood": outcome.log_likelihood,
        "n_parameters": outcome.family.n_parameters,
        "bic": outcome.bic,
        "aic": outcome.aic,
        "icl": outcome.icl,
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "collapsed_components": int(outcome.collapsed.sum()),
    }


def say(name: str, outcome: Outcome, console: Console) -> None:
    """How far the best restart came, and how many came as far."""
    starts = outcome.restarts
    reached = sum(row["log_likelihood"] > outcome.log_likelihood - 0.01 for row in starts)
    console.say(
        f"{name}: log-likelihood {outcome.log_likelihood:.6f} after {outcome.iterations} "
        f"iterations; restart {outcome.restart} of {len(starts)} (seed {outcome.seed}), "
        f"{reached} came as far"
    )


def warn(name: str, outcome: Outcome, columns: list[str], settings: Any, console: Console) -> None:
    """Of a fit that stopped early, and of components that are spikes of density."""
    if not outcome.converged and settings.algorithm != "stochastic":
        console.warn(
            f"{name}: stopped after {outcome.iterations} iterations, the last changed the "
            f"log-likelihood by {outcome.last_change:.3g} nats; model.tol asks for "
            f"{settings.tol:g}. Raise model.max_iter"
        )
    reasons: dict[str, list[int]] = {}
    for k in np.flatnonzero(outcome.collapsed):
        reasons.setdefault(_why_collapsed(outcome, int(k), columns), []).append(int(k))
    for reason, components in reasons.items():
        rows = ", ".join(f"{outcome.count[k]:.1f}" for k in components)
        names = ", ".join(map(str, components))
        console.warn(
            f"{name}: {len(components)} of {outcome.family.n_components} components collapsed into "
            f"spikes of density (number {names}; expected rows {rows}): {reason}"
        )
    spikes = sum(row["collapsed_components"] > 0 for row in outcome.restarts)
    if spikes and not outcome.collapsed.any():
        console.warn(
            f"{name}: {spikes} of {len(outcome.restarts)} restarts collapsed on a few duplicated "
            "or nearly equal rows and were set aside (restarts.csv)"
        )


def _why_collapsed(outcome: Outcome, k: int, columns: list[str]) -> str:
    """What is wrong with a collapsed component, and what to do."""
    family = outcome.family
    assert isinstance(family, GaussianMixture)
    found = outcome.parameters["covariances"][0, k]
    variances = found if found.ndim == 1 else np.diag(found)
    flat = np.flatnonzero(variances < FLAT * family.variances)
    if 0 < len(flat) < len(columns):
        names = ", ".join(repr(columns[j]) for j in flat[:5])
        return (
            f"each on one value of {names}; a column of classes or codes belongs to data.label, or "
            "is left out by data.columns=[…]"
        )
    advice = "use fewer components, a simpler model.covariance, or a larger model.regularisation"
    if outcome.count[k] * family.rows_per_weight < family.columns + 1.5 and found.ndim == 2:
        return (
            f"too few rows: a covariance of its own over {len(columns)} columns needs "
            f"{len(columns) + 2} or more; {advice}"
        )
    return f"rows there are duplicated or nearly so; {advice}"


def compare(comparison: list[dict[str, Any]], criterion: str, session: Session) -> None:
    """Show the best ten by the criterion; all of them go to model_choice.csv."""
    ranked = sorted(comparison, key=lambda row: row[criterion])
    short = [{name: row[name] for name in SHOWN} for row in ranked[:10]]
    session.ctx.console.table(f"best ten by {criterion} (lower is better)", short)
    session.ctx.directory.write_table("model_choice.csv", comparison)
