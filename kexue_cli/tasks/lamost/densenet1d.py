"""A densely connected 1-D network with links between its transitions.

The family that won the 2018 contest, after what is published of it: Wang, Zhao & Fan (2020)
describe dense blocks, transitions of one convolution and an average-pool of 2, and additional
connections from each transition to all later ones. Their layer counts and training recipe were not
to be found; those here are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.lamost.layers import MaskedDropout, SpectrumClassifier, he_normal_


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution, BatchNorm, ReLU, convolution; its output is appended."""

    def __init__(self, n_in: int, growth: int, kernel_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(n_in),
            nn.ReLU(),
            nn.Conv1d(n_in, 4 * growth, 1, bias=False),
            nn.BatchNorm1d(4 * growth),
            nn.ReLU(),
            nn.Conv1d(4 * growth, growth, kernel_size, padding="same", bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, length) -> (batch, n_in + growth, length)."""
        return torch.cat([x, self.layers(x)], dim=1)


class Transition(nn.Module):
    """One 1x1 convolution to `n_out` channels, then the mean of neighbours."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_in)
        self.conv = nn.Conv1d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, length) -> (batch, n_out, length // 2)."""
        return F.avg_pool1d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet1d(SpectrumClassifier):
    """Flux (batch, length) -> logits (batch, n_classes).

    Args:
        length: points of a spectrum.
        n_classes: width of the output.
        stem: channels of the first convolution (kernel 7, stride 2, then a max-pool of 2).
        growth: channels that each dense layer adds.
        layers: dense layers of each block.
        kernel_size: of the dense layers.
        multi_scale: whether a block is given the outputs of the stem and of all transitions before
            it, averaged down to its length, or of the last transition only.
        dropout: of the pooled features.
        generator: of the weights (He normal); biases start at zero.
    """

    def __init__(
        self,
        length: int,
        n_classes: int,
        stem: int = 24,
        growth: int = 12,
        layers: Sequence[int] = (3, 3, 3, 3, 3),
        kernel_size: int = 3,
        multi_scale: bool = True,
        dropout: float = 0.2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        del length  # any length that survives the pools
        self.stem = nn.Conv1d(1, stem, 7, stride=2, padding=3, bias=False)
        self.multi_scale = multi_scale
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        widths = [stem]  # channels that the next block is given, by origin
        for i, depth in enumerate(layers):
            width = sum(widths)
            self.blocks.append(
                nn.Sequential(
                    *(DenseLayer(width + j * growth, growth, kernel_size) for j in range(depth))
                )
            )
            width += depth * growth
            if i + 1 < len(layers):
                self.transitions.append(Transition(width, width // 2))
                widths = [*(widths if multi_scale else []), width // 2]
        self.norm = nn.BatchNorm1d(width)
        self.dropout = MaskedDropout(dropout)
        self.mask_shape = (width,)
        self.output = nn.Linear(width, n_classes)
        he_normal_(self, generator)

    def forward(self, flux: Tensor, kept: Tensor | None = None) -> Tensor:
        """(batch, length) -> (batch, n_classes); `kept` (batch, channels) as `draw_mask` gives."""
        given = [F.max_pool1d(self.stem(flux[:, None]), 2)]
        for block, transition in zip(self.blocks, [*self.transitions, None], strict=True):
            x = block(torch.cat(given, dim=1))
            if transition is not None:
                older = [F.avg_pool1d(scale, 2) for scale in given] if self.multi_scale else []
                given = [*older, transition(x)]
        pooled = F.relu(self.norm(x)).mean(dim=2)
        return self.output(self.apply_dropout(pooled, kept))
