"""Small pieces that the networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import init


class MaskedDropout(nn.Module):
    """Dropout whose mask may be given: then training draws no random number by itself.

    A mask smaller than the input is broadcast: (batch, 1, positions) drops whole positions.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Entries of x where `kept` (bool) is true, over (1 - rate); 0 elsewhere."""
        return x * (kept.to(x.dtype) / (1 - self.rate))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """A mask; each entry is kept with probability 1 - rate."""
        return torch.rand(shape, generator=generator) >= self.rate


class SpectrumClassifier(nn.Module):
    """Base of the networks: flux (batch, length) -> logits (batch, n_classes).

    `mask_shape` is the shape of the dropout mask of one spectrum.
    """

    dropout: MaskedDropout
    mask_shape: tuple[int, ...]

    def draw_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """A dropout mask for `forward`, (batch, *mask_shape)."""
        return self.dropout.draw((batch, *self.mask_shape), generator)

    def apply_dropout(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """Dropout in training, with the given mask or one from torch's global generator."""
        if not self.training or self.dropout.rate == 0:
            return x
        if kept is None:
            kept = self.draw_mask(len(x))
        return self.dropout(x, kept.to(x.device))


def glorot_(model: nn.Module, generator: torch.Generator | None) -> None:
    """Glorot uniform weights and zero biases for every convolution and dense layer, in order."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                init.zeros_(layer.bias)


def he_normal_(model: nn.Module, generator: torch.Generator | None) -> None:
    """He normal weights and zero biases for every convolution and dense layer, in order."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                init.zeros_(layer.bias)
