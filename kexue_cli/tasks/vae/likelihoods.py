"""p(x|z): what the decoder's outputs mean. Post II, https://kexue.fm/archives/5343.

Shapes: images x (cells or 1, batch, pixels) in [0, 1]; outputs (cells, batch, k, pixels *
outputs_per_pixel); log-densities (cells, batch, k), summed over the pixels, in nats.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

CACHE_NUMBERS = 2**17  # float32 numbers that a core's second-level cache holds beside others


class _BernoulliLogProb(torch.autograd.Function):
    """sum_d x_d l_d - softplus(l_d), its gradient x - sigmoid(l): a sigmoid and a log per pixel.

    softplus(l) = -log sigmoid(-l); where sigmoid(-l) underflows (l above 87) the slow form is
    taken.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """Sum over the last dimension."""
        off = torch.neg(logits).sigmoid_()  # probability of 0
        ctx.save_for_backward(off, x)
        linear = torch.matmul(logits, x.unsqueeze(-1)).squeeze(-1)  # (cells, batch, k)
        log_off = None if logits.is_cuda else sums_of_logs(off)
        if log_off is None or not bool(torch.isfinite(log_off).all()):
            log_off = -functional.softplus(logits).sum(-1)
        return linear + log_off

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        """Gradient in the logits; x gets none."""
        off, x = ctx.saved_tensors
        return (off + (x - 1).unsqueeze(-2)).mul_(gradient.unsqueeze(-1)), None


def sums_of_logs(values: Tensor) -> Tensor:
    """Sum of log over the last dimension, in blocks of rows that stay in a core's cache."""
    rows = values.flatten(0, -2)
    block = max(1, CACHE_NUMBERS // rows.shape[1])
    sums = [torch.log(part).sum(-1) for part in rows.split(block)]
    return torch.cat(sums).view(values.shape[:-1])


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Sum over pixels of x log p + (1-x) log(1-p), p = sigmoid(logits); (cells, batch, k).

    For x strictly between 0 and 1 this is minus the "gray cross-entropy", which is no
    log-likelihood.
    """
    result: Tensor = _BernoulliLogProb.apply(logits, x)
    return result


def continuous_bernoulli_log_normaliser(logits: Tensor) -> Tensor:
    """Log C, C = logit / tanh(logit / 2), elementwise. Loaiza-Ganem and Cunningham 2019, eq. 5."""
    small = logits.abs() < 0.3
    safe = torch.where(small, torch.ones_like(logits), logits)
    square = logits * logits
    series = math.log(2.0) + square / 12 - 7 * square * square / 1440
    return torch.where(small, series, (safe / torch.tanh(safe / 2)).log())


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """Mean of the continuous Bernoulli: 1 / (1 - exp(-l)) - 1 / l, elementwise."""
    small = logits.abs() < 0.1
    safe = torch.where(small, torch.ones_like(logits), logits)
    return torch.where(small, 0.5 + logits / 12, -1 / torch.expm1(-safe) - 1 / safe)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Log N(x; mean, sigma^2), elementwise with broadcasting."""
    scaled = (x - mean) * torch.exp(-log_sigma)
    return -0.5 * scaled * scaled - log_sigma - 0.5 * math.log(2 * math.pi)


def discretised_logistic_log_prob(
    x: Tensor, mean: Tensor, log_scale: Tensor, levels: int
) -> Tensor:
    """Log P of x = v / (levels-1), v = 0 .. levels-1, under a logistic cut into bins; elementwise.

    The end bins reach to infinity. With a, b the standardised bin edges, sigmoid(a) - sigmoid(b) =
    sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which loses no digits. Source: Salimans et al. 2017
    (PixelCNN++), section 2.1.
    """
    half = 0.5 / (levels - 1)
    inverse = torch.exp(-log_scale)
    upper = functional.logsigmoid((x + half - mean) * inverse)
    lower = functional.logsigmoid(-(x - half - mean) * inverse)
    inside = torch.log(-torch.expm1(-2 * half * inverse))
    first, last = x < half, x > 1 - half
    middle = upper + lower + inside
    return torch.where(first, upper, torch.where(last, lower, middle))


class Bernoulli(nn.Module):
    """One logit per pixel."""

    outputs_per_pixel: ClassVar[int] = 1
    continuous: ClassVar[bool] = False

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """(cells, batch, k)."""
        return bernoulli_log_prob(outputs, x)

    def mean(self, outputs: Tensor) -> Tensor:
        """E[x|z], (..., pixels)."""
        return torch.sigmoid(outputs)


class ContinuousBernoulli(nn.Module):
    """One logit per pixel; a density on [0, 1]."""

    outputs_per_pixel: ClassVar[int] = 1
    continuous: ClassVar[bool] = True

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """(cells, batch, k)."""
        return bernoulli_log_prob(outputs, x) + continuous_bernoulli_log_normaliser(outputs).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """E[x|z], (..., pixels)."""
        return continuous_bernoulli_mean(outputs)


class Gaussian(nn.Module):
    """Mean per pixel, and sigma in one of four ways.

    `fixed`: `sigma`; `learned`: one number, trained; `optimal`: the minibatch's root mean square
    error, which maximises the likelihood (Rybkin et al. 2021), remembered as a running value for
    evaluation; `pixel`: an output per pixel, kept above `floor` by a softplus.
    """

    continuous: ClassVar[bool] = True

    def __init__(self, cells: int, how: str, sigma: float, floor: float, squash: bool) -> None:
        super().__init__()
        self.how, self.squash, self.log_floor = how, squash, math.log(floor)
        self.outputs_per_pixel = 2 if how == "pixel" else 1
        initial = torch.full((cells,), math.log(sigma))
        if how == "learned":
            self.log_sigma: Tensor = nn.Parameter(initial)
        else:
            self.register_buffer("log_sigma", initial)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """(cells, batch, k)."""
        mean, raw = self._split(outputs)
        target = x.unsqueeze(-2)  # (cells, batch, 1, pixels)
        if self.how == "optimal" and self.training:
            square = (target - mean).square().mean((1, 2, 3))
            log_sigma = 0.5 * square.clamp_min(1e-12).log()
            self.log_sigma.lerp_(log_sigma.detach(), 0.02)
        else:
            log_sigma = self.log_sigma
        if raw is not None:
            log_sigma = self.log_floor + functional.softplus(raw - self.log_floor)
        else:
            log_sigma = log_sigma.view(-1, 1, 1, 1)
        return gaussian_log_prob(target, mean, log_sigma).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """E[x|z], (..., pixels)."""
        return self._split(outputs)[0]

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        raw: Tensor | None = None
        if self.how == "pixel":
            outputs, raw = outputs.chunk(2, -1)
        return (torch.sigmoid(outputs) if self.squash else outputs), raw


class DiscretisedLogistic(nn.Module):
    """Mean and scale per pixel; a probability of each gray level."""

    outputs_per_pixel: ClassVar[int] = 2
    continuous: ClassVar[bool] = False

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """(cells, batch, k)."""
        logits, raw = outputs.chunk(2, -1)
        log_scale = (raw - 2).clamp(-7.0, 5.0)
        target = x.unsqueeze(-2)
        return discretised_logistic_log_prob(
            target, torch.sigmoid(logits), log_scale, self.levels
        ).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """The logistic's location, (..., pixels)."""
        return torch.sigmoid(outputs.chunk(2, -1)[0])
