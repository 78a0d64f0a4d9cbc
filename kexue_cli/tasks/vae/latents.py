"""q(z|x) and p(z): four kinds of latent variables behind one interface, `draw`.

Shapes: features (cells, batch, n); draws z (cells, batch, k, latents); densities (cells, batch, k)
in nats.
`frozen` detaches q's parameters inside log q (not inside z): sticking the landing, Roeder et al.
2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kexue_cli.tasks.vae import vmf
from kexue_cli.tasks.vae.networks import CellLinear, Mlp

LOG_TWO_PI = math.log(2 * math.pi)
LOG_VAR_RANGE = (-30.0, 20.0)  # exp(log_var) stays finite and above 1e-13 from the first step on


@dataclass
class Draw:
    """k draws from q(z|x) with their densities; the KL parts are (cells, batch, latents), None if
    not closed.
    """

    z: Tensor
    log_posterior: Tensor
    log_prior: Tensor
    kl_mean: Tensor | None = None
    kl_variance: Tensor | None = None
    mean: Tensor | None = None
    log_var: Tensor | None = None

    @property
    def kl(self) -> Tensor | None:
        """KL(q(z|x) || p(z)) per latent, (cells, batch, latents)."""
        if self.kl_mean is None or self.kl_variance is None:
            return None
        return self.kl_mean + self.kl_variance


def log_normal(z: Tensor, mean: Tensor | float, log_var: Tensor | None) -> Tensor:
    """The log N(z; mean, exp(log_var)) summed over the last dimension; log_var None means unit
    variance.
    """
    square = (z - mean) ** 2
    if log_var is None:
        return -0.5 * (square.sum(-1) + z.shape[-1] * LOG_TWO_PI)
    return -0.5 * (square * torch.exp(-log_var) + log_var + LOG_TWO_PI).sum(-1)


def gaussian_kl(
    mean: Tensor, log_var: Tensor, prior_mean: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """KL(N(mean, exp(log_var)) || N(prior_mean, 1)) elementwise as its mean part and its variance
    part.

    0.5 (mean - prior_mean)^2 and 0.5 (exp(log_var) - log_var - 1). Source: post I, archives/5253.
    """
    return 0.5 * (mean - prior_mean) ** 2, 0.5 * (torch.exp(log_var) - log_var - 1)


class GaussianLatent(nn.Module):
    """Diagonal normal posterior; the prior is N(0, I) or, with classes, N(mean of the class, I).

    `log_sigma`: the net's second output is log sigma (Burda et al.) in place of log sigma^2 (the
    posts).
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
        return self.mean(features), (self.factor * self.log_var(features)).clamp(*LOG_VAR_RANGE)

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
        """Draw k times, reparameterised draws; `noise` (cells, batch, k, latents) replaces the
        standard normal
        one.
        """
        mean, log_var = self.posterior(features)
        prior_mean = self.prior_mean(labels)
        if noise is None:
            noise = torch.randn(
                *mean.shape[:2], k, self.latents, device=mean.device, dtype=mean.dtype
            )
        z = mean.unsqueeze(2) + torch.exp(0.5 * log_var).unsqueeze(2) * noise
        if frozen:
            log_q = log_normal(z, mean.detach().unsqueeze(2), log_var.detach().unsqueeze(2))
        else:  # the same number, with fewer operations: (z - mean) / sigma is the noise
            log_q = -0.5 * ((noise * noise).sum(-1) + (log_var + LOG_TWO_PI).sum(-1, keepdim=True))
        shift = prior_mean.unsqueeze(2) if isinstance(prior_mean, Tensor) else prior_mean
        parts = gaussian_kl(mean, log_var, prior_mean)
        return Draw(z, log_q, log_normal(z, shift, None), *parts, mean, log_var)

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
        """Draw k pairs (z1, z2); `noise` is (cells, batch, k, latents + top)."""
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


class CategoricalLatent(nn.Module):
    """`variables` one-hot latents of `classes` each, relaxed by Gumbel-softmax while training.

    Post https://kexue.fm/archives/6705. While evaluating the draws are exact one-hots, so that
    log-weights are honest.
    The KL to the uniform prior is sum p log p + log(classes) per variable; it stands in
    `kl_variance`.
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
        return Draw(z.flatten(-2), log_q, torch.full_like(log_q, uniform), torch.zeros_like(kl), kl)

    def prior_draw(self, cells: int, n: int, labels: Tensor | None) -> Tensor:
        """(cells, n, variables * classes) one-hots of uniform classes."""
        weight = self.logits.weight
        index = torch.randint(self.classes, (cells, n, self.variables), device=weight.device)
        return functional.one_hot(index, self.classes).to(weight.dtype).flatten(-2)


class SphereLatent(nn.Module):
    """Von Mises-Fisher posterior with a fixed kappa on the unit sphere, uniform prior: the KL is a
    constant.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], features: int, latents: int, kappa: float
    ) -> None:
        super().__init__()
        self.latents, self.kappa = latents, kappa
        self.mean = CellLinear(generators, features, latents)
        self.theta: Tensor
        self.cumulative: Tensor
        theta, cumulative, self.log_normaliser, mean_w = vmf.angle_table(latents, kappa)
        self.register_buffer("theta", theta, persistent=False)
        self.register_buffer("cumulative", cumulative, persistent=False)
        self.log_area = vmf.log_sphere_area(latents)
        self.kl_constant = kappa * mean_w - self.log_normaliser + self.log_area

    def direction(self, features: Tensor) -> Tensor:
        """Unit mean direction, (cells, batch, latents)."""
        return functional.normalize(self.mean(features), dim=-1)

    def draw(
        self,
        features: Tensor,
        labels: Tensor | None,
        k: int,
        noise: Tensor | None = None,
        frozen: bool = False,
    ) -> Draw:
        """`noise`: (cells, batch, k, 1 + latents), the component w along mu, then a normal
        direction.
        """
        mu = self.direction(features)
        if noise is None:
            noise = self._noise((*mu.shape[:2], k), mu)
        w, direction = noise[..., :1], noise[..., 1:]
        centre = mu.unsqueeze(2)
        z = vmf.along_and_across(centre, w, direction)
        cosine = (z * (centre.detach() if frozen else centre)).sum(-1)
        log_q = self.kappa * cosine - self.log_normaliser
        kl = torch.full_like(mu[..., :1], self.kl_constant)
        return Draw(
            z, log_q, torch.full_like(log_q, -self.log_area), torch.zeros_like(kl), kl, mean=mu
        )

    def _noise(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        u = torch.rand(*shape, 1, device=like.device)
        w = vmf.inverse_cumulative(u, self.theta, self.cumulative, self.latents, self.kappa).to(
            like.dtype
        )
        return torch.cat(
            [w, torch.randn(*shape, self.latents, device=like.device, dtype=like.dtype)], -1
        )

    def prior_draw(self, cells: int, n: int, labels: Tensor | None) -> Tensor:
        """(cells, n, latents), uniform on the sphere."""
        weight = self.mean.weight
        return functional.normalize(
            torch.randn(cells, n, self.latents, device=weight.device, dtype=weight.dtype), dim=-1
        )
