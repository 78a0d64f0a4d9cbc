"""What is told of every test image: its latent means and the bound on its log-likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kexue_cli.tasks.base import Predictions
from kexue_cli.tasks.vae.evaluation import chunks
from kexue_cli.tasks.vae.objectives import beta_elbo

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask


@torch.no_grad()
def of_test_images(task: VaeTask) -> Predictions:
    """Columns z0, z1, ... and the bound, in nats; latents without a mean are given as drawn."""
    group = task.bench.groups[0]
    x, labels = task.evaluated(group, "test")
    means, bounds = [], []
    for part, part_labels in chunks(x, labels, task.rows_in_flight):
        terms = group.model(part, part_labels)
        bounds.append(beta_elbo(terms)[0].cpu().numpy())
        mean = terms.draw.z[:, :, 0] if terms.draw.mean is None else terms.draw.mean
        means.append(mean[0].cpu().numpy())
    latent = np.concatenate(means)
    columns = {f"z{i}": latent[:, i] for i in range(latent.shape[1])}
    value = np.concatenate(bounds) - group.protocol.offset
    name = "log_likelihood_bound" if group.protocol.is_likelihood else "minus_gray_bce_minus_kl"
    return Predictions(task.images.test.ids, value, {**columns, name: value})
