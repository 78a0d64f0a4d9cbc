"""What most tables print of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group, Recipe
from kexue_cli.tasks.vae.numbers import bound_numbers, sampled_numbers

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

COLUMNS = (
    "neg_elbo",
    "reconstruction",
    "kl",
    "kl_mean",
    "kl_variance",
    "mean_sigma",
    "active_units",
)


def single(task: VaeTask, name: dict[str, Any], recipe: Recipe, **model: Any) -> Group:
    """A group of one cell that starts from the run's own initial weights."""
    return Group(task.build(["init"], **model), recipe, task.protocol, [name])


def beside(task: VaeTask, column: str, values: list[float], **recipe: Any) -> Group:
    """One batched model, a cell per value of beta; all start alike."""
    model = task.build(["init"] * len(values))
    betas = torch.tensor(values).unsqueeze(1)
    return Group(
        model, task.recipe(beta=betas, **recipe), task.protocol, [{column: v} for v in values]
    )


def rows_of(task: VaeTask, group: Group, split: str) -> list[dict[str, Any]]:
    """One row per cell: what tells the cell, the bound and its parts, the aggregate KL, the NLL."""
    bounds = bound_numbers(task, group, split)
    likelihoods = sampled_numbers(task, group, split)
    found = []
    for cell, names in enumerate(group.cells):
        numbers = bounds[cell]
        row = dict(names)
        for name in COLUMNS:
            named = group.protocol.name(name) if name in ("neg_elbo", "reconstruction") else name
            if named in numbers:
                row[named] = numbers[named]
        row |= {name: v for name, v in numbers.items() if name.startswith("aggregate_kl")}
        row |= {name: v for name, v in likelihoods[cell].items() if name.startswith("nll")}
        found.append(row)
    return found


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Rows of all groups."""
    return [row for group in task.bench.groups for row in rows_of(task, group, split)]
