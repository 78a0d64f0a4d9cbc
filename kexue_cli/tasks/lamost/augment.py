"""Random changes of training spectra that leave their class as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Strengths; 0 switches a change off.

    Attributes:
        noise: standard deviation of added Gaussian noise, in standard deviations of the spectrum.
        scale: flux is multiplied by exp(u), u uniform within +-scale.
        shift: largest shift to either side, in points; the edges are repeated.
        stretch: the axis is stretched by a factor exp(u), u uniform within +-stretch, about its
            centre.
        flip: probability that the flux changes its sign (electrodes swapped).
        erase: largest share of the points, in one piece, that is replaced by the mean.
    """

    noise: float = 0.0
    scale: float = 0.0
    shift: int = 0
    stretch: float = 0.0
    flip: float = 0.0
    erase: float = 0.0

    def __call__(self, flux: Tensor, generator: torch.Generator) -> Tensor:
        """(batch, length) -> (batch, length), every spectrum by itself."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator) * 2 - 1

        n = len(flux)
        if self.stretch or self.shift:
            flux = resample(flux, torch.exp(self.stretch * uniform(n)), self.shift * uniform(n))
        if self.erase:
            begin = torch.rand(n, 1, generator=generator) * (1 + self.erase) - self.erase
            width = self.erase * torch.rand(n, 1, generator=generator)
            place = torch.linspace(0, 1, flux.shape[1])
            inside = (place >= begin) & (place < begin + width)  # (batch, length)
            flux = torch.where(inside, flux.mean(dim=1, keepdim=True), flux)
        if self.flip:
            flux = torch.where(torch.rand(n, 1, generator=generator) < self.flip, -flux, flux)
        if self.scale:
            flux = flux * torch.exp(self.scale * uniform(n, 1))
        if self.noise:
            spread = flux.std(dim=1, keepdim=True)
            flux = flux + self.noise * spread * torch.randn(flux.shape, generator=generator)
        return flux


def resample(flux: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Stretch each row about its centre by `factor` and move it by `shift` points, linearly.

    flux (batch, length), factor and shift (batch,). Beyond an edge the edge value is repeated.
    """
    length = flux.shape[1]
    centred = torch.arange(length) - (length - 1) / 2
    place = (centred[None] - shift[:, None]) / factor[:, None] + (length - 1) / 2
    place = place.clamp(0, length - 1)  # (batch, length), where each new point comes from
    left = place.floor().long().clamp(max=length - 2)
    weight = (place - left).to(flux.dtype)
    return torch.lerp(flux.gather(1, left), flux.gather(1, left + 1), weight)
