"""InceptionTime's network (Ismail Fawaz et al. 2020, arXiv:1909.04939) for spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.lamost.layers import MaskedDropout, SpectrumClassifier, glorot_


class InceptionModule(nn.Module):
    """Convolutions of several lengths side by side after a bottleneck, and a max-pool branch."""

    def __init__(
        self, n_in: int, filters: int, bottleneck: int, kernel_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        narrow = bottleneck if n_in > 1 else n_in
        self.bottleneck = nn.Conv1d(n_in, bottleneck, 1, bias=False) if n_in > 1 else nn.Identity()
        self.branches = nn.ModuleList(
            nn.Conv1d(narrow, filters, size, padding=size // 2, bias=False) for size in kernel_sizes
        )
        self.pooled = nn.Conv1d(n_in, filters, 1, bias=False)
        self.norm = nn.BatchNorm1d(filters * (len(kernel_sizes) + 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, length) -> (batch, filters * branches, length)."""
        narrow = self.bottleneck(x)
        found = [branch(narrow) for branch in self.branches]
        found.append(self.pooled(F.max_pool1d(x, 3, stride=1, padding=1)))
        return F.relu(self.norm(torch.cat(found, dim=1)))


class Shortcut(nn.Module):
    """relu(y + norm(conv(x))): the residual connection over three modules."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, 1, bias=False)
        self.norm = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(batch, n_in, length) and (batch, n_out, length) -> (batch, n_out, length)."""
        return F.relu(y + self.norm(self.conv(x)))


class Inception1d(SpectrumClassifier):
    """Flux (batch, length) -> logits (batch, n_classes).

    Args:
        length: points of a spectrum; any.
        n_classes: width of the output.
        depth: inception modules, a shortcut over every three.
        filters: channels of each branch.
        bottleneck: channels of the 1x1 convolution before the branches.
        kernel_sizes: odd lengths of the convolutions (the paper's 40, 20 and 10, made odd).
        downsample: points averaged into one before the first module; 1, as in the paper, keeps all.
        dropout: of the pooled features; 0 in the paper.
        generator: of the Glorot uniform weights.
    """

    def __init__(
        self,
        length: int,
        n_classes: int,
        depth: int = 6,
        filters: int = 32,
        bottleneck: int = 32,
        kernel_sizes: Sequence[int] = (39, 19, 9),
        downsample: int = 1,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        del length
        width = filters * (len(kernel_sizes) + 1)
        self.downsample = downsample
        self.blocks = nn.ModuleList(
            InceptionModule(width if i else 1, filters, bottleneck, kernel_sizes)
            for i in range(depth)
        )
        self.shortcuts = nn.ModuleList(
            Shortcut(width if i else 1, width) for i in range(depth // 3)
        )
        self.dropout = MaskedDropout(dropout)
        self.mask_shape = (width,)
        self.output = nn.Linear(width, n_classes)
        glorot_(self, generator)

    def forward(self, flux: Tensor, kept: Tensor | None = None) -> Tensor:
        """(batch, length) -> (batch, n_classes); `kept` (batch, channels) as `draw_mask` gives."""
        x = flux[:, None]  # (batch, 1, length)
        if self.downsample > 1:
            x = F.avg_pool1d(x, self.downsample)
        start = x
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i % 3 == 2:
                start = x = self.shortcuts[i // 3](start, x)
        return self.output(self.apply_dropout(x.mean(dim=2), kept))
