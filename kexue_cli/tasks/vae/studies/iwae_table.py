"""Burda et al. 2016, Table 1: VAE and IWAE with k draws, one batched model per k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.numbers import bound_numbers, sampled_numbers

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

DEFAULT_K = (1, 5, 50)
OBJECTIVES = ("VAE", "IWAE")


def groups(task: VaeTask) -> list[Group]:
    """One group per k; its cells are VAE and IWAE (for k = 1 they are the same) times the seeds."""
    found = []
    for k in (int(value) for value in task.cfg.task.study_values or DEFAULT_K):
        asked = task.cfg.task.study_objectives or OBJECTIVES
        objectives = ("VAE",) if k == 1 else [name for name in OBJECTIVES if name in asked]
        cells = [
            {"objective": name if k > 1 else "VAE = IWAE", "k": k, "seed": seed}
            for name in objectives
            for seed in range(task.cfg.task.study_seeds)
        ]
        model = task.build([f"init {cell['seed']}" for cell in cells])
        iwae = torch.tensor([[cell["objective"] == "IWAE"] for cell in cells])
        found.append(Group(model, task.recipe(samples=k, iwae=iwae), task.protocol, cells))
    return found


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """NLL, bound and active units of every cell."""
    found = []
    for group in task.bench.groups:
        bounds = bound_numbers(task, group, split)
        likelihoods = sampled_numbers(task, group, split)
        for cell, names in enumerate(group.cells):
            row = {**names, **likelihoods[cell]}
            row[group.protocol.name("neg_elbo")] = bounds[cell][group.protocol.name("neg_elbo")]
            row["active_units"] = bounds[cell].get("active_units", float("nan"))
            found.append(row)
    return found
