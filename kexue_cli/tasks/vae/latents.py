"""q(z|x) and p(z): normal latents, in one layer or two, behind the interface of all: `draw`.

Shapes: features (cells, batch, n); draws z (cells, batch, k, latents); densities (cells, batch, k)
in nats. `frozen` detaches q's parameters inside log q (not inside z): sticking the landing, Roeder
et al. 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kexue_cli.tasks.vae.networks import CellLinear, Mlp

LOG_TWO_PI = math.log(2 * math.pi)
LOG_VAR_RANGE = (-30.0, 20.0)  # exp(log_var) stays finite and above 1e-13 from the first step on


@dataclass
class Draw:
    """k draws from q(z|x) with their densities."""

    z: Tensor
    log_posterior: Tensor
    log_prior: Tensor
    mean: Tensor | None = None
    log_var: Tensor | None = None
    closed_kl: Callable[[], tuple[Tensor, Tensor]] | None = None  # its parts, when asked for

    @functools.cached_property
    def kl_parts(self) -> tuple[Tensor, Tensor] | None:
        """The KL's mean part and variance part, each (cells, batch, latents)."""
        return None if self.closed_kl is None else self.closed_kl()

    @property
    def kl(self) -> Tensor | None:
        """KL(q(z|x) || p(z)) per latent, (cells, batch, latents)."""
        return None if self.kl_parts is None else self.kl_parts[0] + self.kl_parts[1]


def log_normal(z: Tensor, mean: Tensor | float, log_var: Tensor | None) -> Tensor:
    """Log N(z; mean, exp(log_var)), summed over the last dimension; log_var None: variance 1."""
    square = (z - mean) ** 2
    if log_var is None:
        return -0.5 * (square.sum(-1) + z.shape[-1] * LOG_TWO_PI)
    return -0.5 * (square * torch.exp(-log_var) + log_var + LOG_TWO_PI).sum(-1)


def gaussian_kl(
    mean: Tensor, log_var: Tensor, prior_mean: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """KL(N(mean, exp(log_var)) || N(prior_mean, 1)), elementwise: mean part, variance part.

    0.5 (mean - prior_mean)^2 and 0.5 (exp(log_var) - log_var - 1). Source: post I, archives/5253.
    """
    return 0.5 * (mean - prior_mean) ** 2, 0.5 * (torch.exp(log_var) - log_var - 1)


class Reparameterised(torch.autograd.Function):
    """z = mean + sigma noise and log q(z|x), one pass each way.

    mean, log_var (cells, batch, latents), noise (cells, batch, k, latents). In log q the noise
    stands for (z - mean) / sigma: the same number, and its gradient is in log_var alone.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        sigma = torch.exp(0.5 * log_var)
        z = torch.addcmul(mean.unsqueeze(2), sigma.unsqueeze(2), noise)
        own = log_var.sum(-1, keepdim=True).add_(log_var.shape[-1] * LOG_TWO_PI)
        log_q = torch.linalg.vector_norm(noise, dim=-1).square_().add_(own).mul_(-0.5)
        ctx.save_for_backward(sigma, noise)
        return z, log_q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_z: Tensor, to_log_q: Tensor) -> tuple[Tensor, Tensor, None]:
        """See the class."""
        sigma, noise = ctx.saved_tensors
        to_log_var = (to_z * noise).sum(2).mul_(sigma).sub_(to_log_q.sum(2, keepdim=True)).mul_(0.5)
        return to_z.sum(2), to_log_var, None


class GaussianLatent(nn.Module):
    """Diagonal normal posterior; the prior is N(0, I) or, with classes, N(mean of the class, I).

    `log_sigma`: the second head is log sigma (Burda et al.) in place of log sigma^2 (the posts).
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        features: int,
        latents: int,
        log_sigma: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.latents, self.factor = latents, 2.0 if log_sigma else 1.0
        self.mean = CellLinear(generators, features, latents)
        self.log_var = CellLinear(generators, features, latents)
        self.class_mean = CellLinear(generators, classes, latents) if classes else None

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log variance), each (cells, batch, latents)."""
        with torch.autocast(features.device.type, enabled=False):
            # z, and densities of it, need more digits than half precision has
            wide = features if features.dtype == torch.float64 else features.float()
            log_var = self.factor * self.log_var(wide)
            return self.mean(wide), log_var.clamp(*LOG_VAR_RANGE)

    def prior_mean(self, labels: Tensor | None) -> Tensor | float:
        """(cells, batch, latents) from one-hot labels (1, batch, classes), or 0."""
        if self.class_mean is None:
            return 0.0
        if labels is None:
            raise ValueError("a class-mean prior needs labels")
        means: Tensor = self.class_mean(labels)
        return means

    def draw(
        self,
        features: Tensor,
        labels: Tensor | None,
        k: int,
        noise: Tensor | None = None,
        frozen: bool = False,
    ) -> Draw:
        """The k reparameterised draws; `noise` (cells, batch, k, latents) if not normal ones."""
        mean, log_var = self.posterior(features)
        prior_mean = self.prior_mean(labels)
        if noise is None:
            noise = torch.randn(
                *mean.shape[:2], k, self.latents, device=mean.device, dtype=mean.dtype
            )
        if frozen:
            z = mean.unsqueeze(2) + torch.exp(0.5 * log_var).unsqueeze(2) * noise
            log_q = log_normal(z, mean.detach().unsqueeze(2), log_var.detach().unsqueeze(2))
        else:
            z, log_q = Reparameterised.apply(mean, log_var, noise)
        shift = prior_mean.unsqueeze(2) if isinstance(prior_mean, Tensor) else prior_mean
        log_prior = log_normal(z, shift, None)

        def closed_kl() -> tuple[Tensor, Tensor]:
            return gaussian_kl(mean, log_var, prior_mean)

        return Draw(z, log_q, log_prior, mean, log_var, closed_kl)

    def prior_draw(self, cells: int, n: int, labels: Tensor | None) -> Tensor:
        """(cells, n, latents) from p(z)."""
        weight = self.mean.weight
        noise = torch.randn(cells, n, self.latents, device=weight.device, dtype=weight.dtype)
        return noise + self.prior_mean(labels)


class TwoLayerLatent(nn.Module):
    """Burda et al.'s second network: x -> z1 -> z2 and p(z2) p(z1|z2); the decoder sees z1."""

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        features: int,
        latents: int,
        top: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.latents = latents
        self.first = GaussianLatent(generators, features, latents, log_sigma=True)
        self.up = Mlp(generators, latents, [hidden, hidden], "tanh")
        self.second = GaussianLatent(generators, hidden, top, log_sigma=True)
        self.down = Mlp(generators, top, [hidden, hidden], "tanh")
        self.conditional = GaussianLatent(generators, hidden, latents, log_sigma=True)

    def draw(
        self,
        features: Tensor,
        labels: Tensor | None,
        k: int,
        noise: Tensor | None = None,
        frozen: bool = False,
    ) -> Draw:
        """The k pairs (z1, z2); `noise` is (cells, batch, k, latents + top)."""
        lower_noise, upper_noise = (
            (None, None)
            if noise is None
            else noise.split_with_sizes([self.latents, noise.shape[-1] - self.latents], -1)
        )
        first = self.first.draw(features, None, k, lower_noise, frozen)
        cells, batch = first.z.shape[:2]
        rows = first.z.flatten(1, 2)  # (cells, batch * k, latents)
        if upper_noise is not None:
            upper_noise = upper_noise.flatten(1, 2).unsqueeze(2)
        second = self.second.draw(self.up(rows), None, 1, upper_noise, frozen)
        mean, log_var = self.conditional.posterior(self.down(second.z.squeeze(2)))
        log_conditional = log_normal(rows, mean, log_var).view(cells, batch, k)
        log_top = second.log_prior.view(cells, batch, k)
        log_q = first.log_posterior + second.log_posterior.view(cells, batch, k)
        return Draw(
            first.z, log_q, log_conditional + log_top, mean=first.mean, log_var=first.log_var
        )

    def prior_draw(self, cells: int, n: int, labels: Tensor | None) -> Tensor:
        """(cells, n, latents): z1 by way of z2."""
        top = self.second.prior_draw(cells, n, None)
        mean, log_var = self.conditional.posterior(self.down(top))
        return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
