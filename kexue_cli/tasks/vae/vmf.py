"""Von Mises-Fisher distribution on the unit sphere of dimension m with a fixed concentration kappa.

Post https://kexue.fm/archives/8404. With w = cos(theta) the component along the mean direction,
p(theta) is proportional to exp(kappa cos theta) sin(theta)^(m-2): smooth, so a table in theta is
exact to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GRID = 8193  # points of theta in [0, pi]


def log_sphere_area(m: int) -> float:
    """Log of the area of the unit sphere in m dimensions: 2 pi^(m/2) / Gamma(m/2)."""
    return math.log(2) + 0.5 * m * math.log(math.pi) - math.lgamma(0.5 * m)


def angle_table(m: int, kappa: float) -> tuple[Tensor, Tensor, float, float]:
    """(theta, cumulative probability, log normaliser of exp(kappa mu.z), E[w]), (GRID,) float64.

    The density of z is exp(kappa mu.z - log normaliser). Cumulative Simpson sums: error O(step^4).
    """
    theta = torch.linspace(0, math.pi, GRID, dtype=torch.float64)
    middle = (theta[1:] + theta[:-1]) / 2
    step = math.pi / (GRID - 1)

    def density(angle: Tensor) -> Tensor:
        return torch.exp(kappa * (torch.cos(angle) - 1)) * torch.sin(angle) ** (m - 2)

    def simpson(at: Tensor, between: Tensor) -> Tensor:
        return (at[1:] + at[:-1] + 4 * between) * (step / 6)

    at, between = density(theta), density(middle)
    pieces = simpson(at, between)
    total = float(pieces.sum())
    mean_w = float(simpson(at * torch.cos(theta), between * torch.cos(middle)).sum()) / total
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), pieces.cumsum(0)]) / total
    log_normaliser = kappa + math.log(total) + log_sphere_area(m - 1)
    return theta, cumulative, log_normaliser, mean_w


def inverse_cumulative(
    u: Tensor, theta: Tensor, cumulative: Tensor, m: int, kappa: float
) -> Tensor:
    """The w not exceeded with probability u, elementwise, float64: table, then two Newton steps."""
    exceeding = 1 - u.double()  # theta falls as w rises
    index = torch.searchsorted(cumulative, exceeding).clamp(1, GRID - 1)
    left, right = cumulative[index - 1], cumulative[index]
    share = ((exceeding - left) / (right - left).clamp_min(1e-300)).clamp(0, 1)
    step = theta[1] - theta[0]
    offset = share * step
    start = theta[index - 1]
    peak = (right - left) / step
    for _ in range(2):  # inside one grid cell: cumulative by Simpson against the wanted share
        offset = _newton(offset, start, share * peak * step, m, kappa, right - left, step)
    return torch.cos(start + offset)


def _newton(
    offset: Tensor, start: Tensor, wanted: Tensor, m: int, kappa: float, mass: Tensor, step: Tensor
) -> Tensor:
    def density(angle: Tensor) -> Tensor:
        return torch.exp(kappa * (torch.cos(angle) - torch.cos(start))) * torch.sin(angle) ** (
            m - 2
        )

    def integral(length: Tensor) -> Tensor:
        return (
            length
            / 6
            * (density(start) + 4 * density(start + length / 2) + density(start + length))
        )

    scale = mass / integral(step.expand_as(start)).clamp_min(1e-300)
    slope = (scale * density(start + offset)).clamp_min(1e-300)
    return (offset - (scale * integral(offset) - wanted) / slope).clamp_min(0).minimum(step)


def along_and_across(mu: Tensor, w: Tensor, direction: Tensor) -> Tensor:
    """The z = w mu + sqrt(1 - w^2) nu, nu the unit tangent along `direction`; (..., m)."""
    tangent = direction - (direction * mu).sum(-1, keepdim=True) * mu
    nu = torch.nn.functional.normalize(tangent, dim=-1)
    return w * mu + (1 - w * w).clamp_min(0).sqrt() * nu
