"""Mean and variance of stochastic gradients, by repeating them at fixed weights and images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def gradient_moments(
    loss: Callable[[], Tensor], parameters: list[nn.Parameter], repeats: int
) -> tuple[Tensor, Tensor]:
    """(mean, variance) of each coordinate of d loss / d parameters over `repeats` fresh draws.

    Flat, float64.
    """
    total = square = torch.zeros(())
    for repeat in range(repeats):
        found = torch.autograd.grad(loss(), parameters, allow_unused=True)
        pieces = [
            torch.zeros(p.numel()) if g is None else g.detach().cpu().reshape(-1)
            for p, g in zip(parameters, found, strict=True)
        ]
        flat = torch.cat(pieces).double()
        difference = flat - total  # Welford's running moments
        total = total + difference / (repeat + 1)
        square = square + difference * (flat - total)
    return total, square / max(1, repeats - 1)


def signal_to_noise(mean: Tensor, variance: Tensor) -> float:
    """Mean of |mean| / standard deviation over the coordinates that vary.

    Rainforth et al. 2018, eq. 4.
    """
    alive = variance > 0
    return float((mean[alive].abs() / variance[alive].sqrt()).mean()) if bool(alive.any()) else 0.0


def encoder_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the encoder and of q's heads."""
    encoder, latent = model.get_submodule("encoder"), model.get_submodule("latent")
    return [*encoder.parameters(), *latent.parameters()]


def decoder_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the decoder."""
    return list(model.get_submodule("decoder").parameters())
