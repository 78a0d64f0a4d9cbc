"""Post III: reparameterisation against REINFORCE and no gradient, in variance and result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.studies import common
from kexue_cli.tasks.vae.studies.kl_form import gradient_variances

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

ESTIMATORS = {
    "elbo": "reparameterisation",
    "reinforce": "REINFORCE",
    "reinforce_baseline": "REINFORCE, minibatch mean subtracted",
    "no_gradient": "none: z a constant to the encoder",
}


def groups(task: VaeTask) -> list[Group]:
    """One group per estimator of the encoder's gradient."""
    return [
        common.single(task, {"encoder's gradient": name}, task.recipe(objective=objective))
        for objective, name in ESTIMATORS.items()
    ]


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """The common columns and the encoder's gradient variance at the weights of the first."""
    variances = gradient_variances(task, [group.recipe for group in task.bench.groups])
    found = common.rows(task, split)
    for row, variance in zip(found, variances, strict=True):
        row["encoder_gradient_variance"] = variance
    return found
