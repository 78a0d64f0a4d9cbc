"""Post III: k draws from the prior for the minibatch, against one from each posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.objectives import prior_sampling
from kexue_cli.tasks.vae.studies import common

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

DEFAULT_K = (1, 10, 100, 500)
TEST_DRAWS = 10_000


def groups(task: VaeTask) -> list[Group]:
    """The posterior with one draw, then the prior with k."""
    found = [common.single(task, {"draws from": "posterior", "k": 1}, task.recipe())]
    for k in (int(value) for value in task.cfg.task.study_values or DEFAULT_K):
        recipe = task.recipe(objective="prior_sampling", samples=k)
        found.append(common.single(task, {"draws from": "prior", "k": k}, recipe))
    return found


@torch.no_grad()
def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """One estimator for all: -log (1/n) sum p(x|z_i), n = 10,000 draws from the prior."""
    found = []
    for group in task.bench.groups:
        x, _ = task.evaluated(group, split)
        values = [
            prior_sampling(group.model, part, TEST_DRAWS) for part in x.unsqueeze(0).split(1000, 1)
        ]
        mean = -torch.cat(values, 1).double().mean()
        found.append(
            {**group.cells[0], f"nll_prior{TEST_DRAWS}_{group.protocol.suffix}": float(mean)}
        )
    return found
