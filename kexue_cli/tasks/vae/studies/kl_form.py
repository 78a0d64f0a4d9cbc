"""Post III: the KL may be sampled too; what that does to the encoder's gradient variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group, Recipe
from kexue_cli.tasks.vae.gradients import encoder_parameters, gradient_moments
from kexue_cli.tasks.vae.studies import common

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

REPEATS = 200


def groups(task: VaeTask) -> list[Group]:
    """Closed form, sampled, sticking the landing."""
    names = {
        "analytic": "closed form",
        "sampled": "sampled",
        "stl": "sampled, sticking the landing",
    }
    return [common.single(task, {"KL": name}, task.recipe(kl=kl)) for kl, name in names.items()]


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Common columns and the encoder's gradient variance, all at the weights of the first."""
    variances = gradient_variances(task, [group.recipe for group in task.bench.groups])
    found = common.rows(task, split)
    for row, variance in zip(found, variances, strict=True):
        row["encoder_gradient_variance"] = variance
    return found


def gradient_variances(task: VaeTask, recipes: list[Recipe], first: int = 100) -> list[float]:
    """Variance of the encoder's gradient, summed over its coordinates.

    At the first group's weights, for the mean loss of `first` validation images.
    """
    group = task.bench.groups[0]
    x, _ = task.evaluated(group, "valid", first)
    found = []
    for recipe in recipes:
        probe = Group(group.model, recipe, group.protocol)

        def loss(probe: Group = probe) -> torch.Tensor:
            return -probe.bound(x.unsqueeze(0), None, 10**9)[0].mean()

        _, variance = gradient_moments(loss, encoder_parameters(group.model), REPEATS)
        found.append(float(variance.sum()))
    return found
