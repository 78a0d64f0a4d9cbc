"""Latents on the unit sphere. Post https://kexue.fm/archives/8404."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kexue_cli.tasks.vae import vmf
from kexue_cli.tasks.vae.latents import Draw
from kexue_cli.tasks.vae.networks import CellLinear


class SphereLatent(nn.Module):
    """Von Mises-Fisher posterior of fixed kappa, uniform prior: the KL is a constant."""

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
        """`noise` (cells, batch, k, 1 + latents): component along mu, then a normal direction."""
        mu = self.direction(features)
        if noise is None:
            noise = self._noise((*mu.shape[:2], k), mu)
        w, direction = noise[..., :1], noise[..., 1:]
        centre = mu.unsqueeze(2)
        z = vmf.along_and_across(centre, w, direction)
        cosine = (z * (centre.detach() if frozen else centre)).sum(-1)
        log_q = self.kappa * cosine - self.log_normaliser
        kl = torch.full_like(mu[..., :1], self.kl_constant)
        log_prior = torch.full_like(log_q, -self.log_area)
        return Draw(z, log_q, log_prior, mean=mu, closed_kl=lambda: (torch.zeros_like(kl), kl))

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
