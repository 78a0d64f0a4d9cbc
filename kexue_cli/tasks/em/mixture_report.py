"""What a run says of its fits: a line, warnings, and the table of a choice among models."""

from __future__ import annotations

from typing import Any

import numpy as np

from kexue_cli.run.console import Console
from kexue_cli.tasks.em.fitting import Outcome
from kexue_cli.tasks.em.session import Session

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


def warn(name: str, outcome: Outcome, settings: Any, console: Console) -> None:
    """Of a fit that stopped early, and of components that sit on (nearly) duplicated rows."""
    if not outcome.converged and settings.algorithm != "stochastic":
        console.warn(
            f"{name}: stopped after {outcome.iterations} iterations, the last changed the "
            f"log-likelihood by {outcome.last_change:.3g} nats; model.tol asks for "
            f"{settings.tol:g}. Raise model.max_iter"
        )
    for k in np.flatnonzero(outcome.collapsed):
        console.warn(
            f"{name}: component {k} has collapsed on {outcome.count[k]:.1f} rows (duplicated "
            "or nearly so): a spike of density, not a cluster. Use fewer components, a simpler "
            "model.covariance, or a larger model.regularisation"
        )
    spikes = sum(row["collapsed_components"] > 0 for row in outcome.restarts)
    if spikes and not outcome.collapsed.any():
        console.warn(
            f"{name}: {spikes} of {len(outcome.restarts)} restarts collapsed on a few duplicated "
            "or nearly equal rows and were set aside (restarts.csv)"
        )


def compare(comparison: list[dict[str, Any]], criterion: str, session: Session) -> None:
    """Show the best ten by the criterion; all of them go to model_choice.csv."""
    ranked = sorted(comparison, key=lambda row: row[criterion])
    short = [{name: row[name] for name in SHOWN} for row in ranked[:10]]
    session.ctx.console.table(f"best ten by {criterion} (lower is better)", short)
    session.ctx.directory.write_table("model_choice.csv", comparison)
