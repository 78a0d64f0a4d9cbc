"""Post I's CVAE: class means in the prior, or labels in both nets; judged by a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.studies import common
from kexue_cli.tasks.vae.studies.beta import binary, train_judge

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

PER_CLASS = 200


def groups(task: VaeTask) -> list[Group]:
    """The two ways to use a label."""
    ways = (
        ("class means of the prior (post I)", True, False),
        ("label into encoder and decoder", False, True),
    )
    return [
        common.single(
            task, {"label": name}, task.recipe(), class_mean_prior=prior, conditional=both
        )
        for name, prior, both in ways
    ]


@torch.no_grad()
def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Bound, and how many samples of class y are recognised as y: all, and of the worst class."""
    judge = train_judge(task)
    found = []
    for group in task.bench.groups:
        row = common.rows_of(task, group, split)[0]
        classes = task.images.classes
        wanted = torch.arange(classes, device=task.device).repeat_interleave(PER_CLASS)
        labels = torch.nn.functional.one_hot(wanted, classes).float().unsqueeze(0)
        z = group.model.latent.prior_draw(1, len(wanted), labels)
        samples = binary(
            group.model.likelihood.mean(group.model.decode(z.unsqueeze(2), labels))[0, :, 0]
        )
        right = (judge.predict(samples) == wanted).double().view(classes, PER_CLASS).mean(1)
        row["recognised"] = float(right.mean())
        row["recognised_worst_class"] = float(right.min())
        row["worst_class"] = int(right.argmin())
        row["classifier_accuracy"] = judge.accuracy
        found.append(row)
    return found
