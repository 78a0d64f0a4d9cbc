"""What a model sees of the gray levels, and what the numbers computed from it may be called.

dynamic: 0/1 drawn anew for every minibatch; fixed: drawn once; static: the file is binary; gray:
value / (levels-1);
dequantised: (value + u) / levels. Evaluation draws from its own fixed seed, so that two runs see
the same images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.common.images import Images, ImageSet, unit_interval

EVALUATION_SEED = 123
FIXED_SEED = 456


@dataclass(frozen=True)
class Protocol:
    """How pixels are shown, and how the bound on them is named and put into nats per image.

    `offset` is added to -log p: pixels * log(levels) turns a density of dequantised pixels into the
    probability of gray levels. `is_likelihood` is False for the cross-entropy of gray pixels.
    """

    view: str
    suffix: str
    offset: float = 0.0
    is_likelihood: bool = True

    def name(self, quantity: str) -> str:
        """Metric name: quantity and protocol; what is no likelihood is called gray_bce."""
        return f"{quantity}_{self.suffix}" if self.is_likelihood else f"{GRAY_NAMES[quantity]}"


GRAY_NAMES = {"neg_elbo": "gray_bce_plus_kl", "reconstruction": "gray_bce"}


def protocol_for(view: str, likelihood: str, levels: int | None, pixels: int) -> Protocol:
    """Protocol of a configured view; `auto` binarises gray pixels for a Bernoulli decoder."""
    bernoulli, continuous = (
        likelihood == "bernoulli",
        likelihood in ("gaussian", "continuous_bernoulli"),
    )
    if view == "auto":
        view = "gray" if not bernoulli else "dynamic"
        if levels == 2:
            view = "static"
    if view in ("dynamic", "fixed", "static"):
        if not bernoulli and view != "static":
            raise ConfigError(
                "task.pixels", f"{view} pixels are 0 or 1: use model.likelihood=bernoulli"
            )
        return Protocol(view, view if not continuous else f"density_{view}")
    if view == "dequantised":
        if not continuous or levels is None:
            raise ConfigError(
                "task.pixels", "dequantised is for gray levels and a continuous likelihood"
            )
        return Protocol(view, "dequantised", offset=pixels * float(np.log(levels)))
    if bernoulli:
        return Protocol(view, "gray", is_likelihood=False)
    return Protocol(view, "density" if continuous else "discrete")


class PixelView:
    """One split as a model sees it, on `device` as bytes where it can; `levels` as in ImageSet."""

    def __init__(self, images: Images, levels: int | None, view: str, device: torch.device) -> None:
        self.levels, self.view = levels, view
        pixels = images.pixels.reshape(len(images), -1)
        flat = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if view == "fixed":
            generator = torch.Generator().manual_seed(FIXED_SEED)
            gray = torch.from_numpy(unit_interval(flat.numpy(), levels))
            flat = (torch.rand(gray.shape, generator=generator) < gray).to(torch.uint8)
            self.levels = 2
        self.stored = flat.to(device)

    def __len__(self) -> int:
        return len(self.stored)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images of these rows, (1, batch, pixels) float32; `generator` draws for random views."""
        stored = self.stored[rows]
        scale = 1 if self.levels is None else self.levels - 1
        if self.view == "dynamic":
            u = torch.rand(stored.shape, generator=generator, device=stored.device)
            return (u * scale < stored).float().unsqueeze(0)
        if self.view == "dequantised":
            assert self.levels is not None
            u = torch.rand(stored.shape, generator=generator, device=stored.device)
            return ((stored + u) / self.levels).unsqueeze(0)
        return (stored.float() / scale).unsqueeze(0)

    def for_evaluation(self, limit: int | None = None) -> Tensor:
        """Images (n, pixels), drawn with the evaluation seed; `limit` spread over the file."""
        generator = torch.Generator(self.stored.device).manual_seed(EVALUATION_SEED)
        rows = torch.arange(len(self), device=self.stored.device)
        shown = self.batch(rows, generator)[0]
        return shown if limit is None or limit >= len(shown) else shown[evenly(len(shown), limit)]


def evenly(n: int, limit: int) -> Tensor:
    """`limit` row numbers spread evenly over n rows."""
    return torch.linspace(0, n - 1, limit).round().long()


def mean_image(images: ImageSet) -> np.ndarray:
    """Mean training image, (pixels,) in [0, 1]."""
    scale = 1.0 if images.levels is None else 1.0 / (images.levels - 1)
    return images.train.pixels.reshape(len(images.train), -1).mean(0, dtype=np.float64) * scale
