"""Incremental EM: an M-step after every mini-batch, sums of the other batches kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.iterate import Iteration
from kexue_cli.tasks.em.natural import (
    Natural,
    Parameters,
    Statistics,
    expected_log_joint,
    zeros_like,
)
from kexue_cli.tasks.em.stage import Stage

BatchExpectation = Callable[[Natural, int], Statistics]  # (parameters, batch number) -> its sums


def incremental(
    family: Family,
    expectation: BatchExpectation,
    batches: int,
    parameters: Parameters,
    how: Iteration,
    stage: Stage | None = None,
) -> tuple[Parameters, bool]:
    """Sweep over the batches until the free energy settles.

    Each visit replaces one batch's sums and maximises at once, so parameters move many times per
    sweep; the free energy still never falls. Only one set of sums per batch is kept.

    Returns:
        The parameters (of R restarts), and whether the last sweep changed less than how.tol.

    Source: Neal and Hinton, "A view of the EM algorithm that justifies incremental, sparse, and
    other variants", 1998.
    """
    stage = stage or Stage()
    if stage.state is None:
        natural = family.natural(parameters)
        kept = [expectation(natural, batch) for batch in range(batches)]
        before, first = np.full(len(parameters["weights"]), -np.inf), 0
    else:
        parameters, before = stage.state["parameters"], stage.state["before"]
        kept = [Statistics(**sums) for sums in stage.state["kept"]]
        first = stage.state["sweep"]
    for sweep in range(first, how.max_iter):
        stage.keep(
            {
                "parameters": parameters,
                "kept": [vars(sums) for sums in kept],
                "before": before,
                "sweep": sweep,
            }
        )
        natural = family.natural(parameters)
        # added afresh in each sweep, so that rounding of the replacements does not pile up
        total = sum(kept, zeros_like(natural))
        for batch in range(batches):
            parameters = family.maximise(total, parameters)
            natural = family.natural(parameters)
            fresh = expectation(natural, batch)
            total = total + fresh - kept[batch]
            kept[batch] = fresh
        free_energy = expected_log_joint(natural, total) + total.entropy
        free_energy = free_energy + family.log_prior(parameters)
        if np.all(np.abs(free_energy - before) < how.tol):
            return parameters, True
        before = free_energy
    return parameters, False
