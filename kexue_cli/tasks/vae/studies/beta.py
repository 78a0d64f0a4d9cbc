"""Post I: without the KL sigma goes to 0 and draws from the prior no longer look like data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.classifier import frechet_distance, train_classifier
from kexue_cli.tasks.vae.studies import common

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

DEFAULT_BETAS = [0.0, 0.1, 0.5, 1.0, 2.0, 4.0]


def groups(task: VaeTask) -> list[Group]:
    """One batched model, a cell per beta."""
    return [common.beside(task, "beta", list(task.cfg.task.study_values or DEFAULT_BETAS))]


@torch.no_grad()
def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Common columns; Frechet distance of prior samples and reconstructions to test images."""
    group = task.bench.groups[0]
    found = common.rows_of(task, group, split)
    judge = train_judge(task)
    x, _ = task.evaluated(group, split)
    real = judge.features(x)
    z = group.model.latent.prior_draw(len(group.cells), len(x), None)
    samples = binary(group.model.likelihood.mean(group.model.decode(z.unsqueeze(2)))[:, :, 0])
    for cell, row in enumerate(found):
        row["frechet_own_classifier_prior_samples"] = frechet_distance(
            judge.features(samples[cell]), real
        )
    return found


def binary(probabilities: Tensor) -> Tensor:
    """0/1 images drawn from pixel probabilities."""
    return torch.bernoulli(probabilities)


def train_judge(task: VaeTask) -> Any:
    """A classifier of binarised images, trained on the training split."""
    group = task.bench.groups[0]
    images = task.view("train", group.protocol.view).for_evaluation()
    test = task.view("test", group.protocol.view).for_evaluation()
    labels, test_labels = task.labels("train"), task.labels("test")
    generator = task.ctx.seeds.torch("classifier")
    with torch.enable_grad():
        judge = train_classifier(
            images, labels[0].argmax(-1), test, test_labels[0].argmax(-1), generator
        )
    task.ctx.console.say(f"classifier trained here: accuracy {judge.accuracy:.4f} on test images")
    return judge
