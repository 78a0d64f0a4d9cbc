"""Discrete latents by Gumbel-softmax. Post https://kexue.fm/archives/6705."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kexue_cli.tasks.vae.latents import Draw
from kexue_cli.tasks.vae.networks import CellLinear


class CategoricalLatent(nn.Module):
    """`variables` one-hot latents of `classes` each, relaxed by Gumbel-softmax while training.

    Post https://kexue.fm/archives/6705. While evaluating the draws are exact one-hots, so that
    log-weights are honest. The KL to the uniform prior is sum p log p + log(classes) per variable;
    all of it counts as the variance part.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], features: int, variables: int, classes: int
    ) -> None:
        super().__init__()
        self.variables, self.classes, self.latents = variables, classes, variables * classes
        self.temperature = 1.0
        self.logits = CellLinear(generators, features, self.latents)

    def draw(
        self,
        features: Tensor,
        labels: Tensor | None,
        k: int,
        noise: Tensor | None = None,
        frozen: bool = False,
    ) -> Draw:
        """`noise`: uniform numbers (cells, batch, k, variables * classes)."""
        logits = self.logits(features).unflatten(-1, (self.variables, self.classes))
        log_p = torch.log_softmax(logits, -1)
        shape = (*logits.shape[:2], k, self.variables, self.classes)
        if noise is None:
            noise = torch.rand(shape, device=logits.device, dtype=logits.dtype)
        gumbel = -torch.log(-torch.log(noise.view(shape) + 1e-7) + 1e-7)
        scores = logits.unsqueeze(2) + gumbel
        if self.training:
            z = torch.softmax(scores / self.temperature, -1)
        else:
            z = functional.one_hot(scores.argmax(-1), self.classes).to(scores.dtype)
        log_q = (z * (log_p.detach() if frozen else log_p).unsqueeze(2)).sum((-1, -2))
        uniform = -self.variables * math.log(self.classes)
        kl = (log_p.exp() * log_p).sum(-1) + math.log(self.classes)
        log_prior = torch.full_like(log_q, uniform)
        return Draw(z.flatten(-2), log_q, log_prior, closed_kl=lambda: (torch.zeros_like(kl), kl))

    def prior_draw(self, cells: int, n: int, labels: Tensor | None) -> Tensor:
        """(cells, n, variables * classes) one-hots of uniform classes."""
        weight = self.logits.weight
        index = torch.randint(self.classes, (cells, n, self.variables), device=weight.device)
        return functional.one_hot(index, self.classes).to(weight.dtype).flatten(-2)
