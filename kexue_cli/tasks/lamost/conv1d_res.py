"""The residual CNN of kexue.fm/archives/5505 for spectra.

Eight blocks, each of three convolutions with dilation 1, 2 and 4 whose output is the sum of two
ReLUs, plus a shortcut; a max-pool of 2 between blocks, dropout of whole positions, the global
maximum and two dense layers. With the post's settings it has 748,324 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.lamost.layers import MaskedDropout, SpectrumClassifier, glorot_
from kexue_cli.tasks.lamost.native_trunk import NativeTrunk, choose_engine


class PairSumConv(nn.Module):
    """relu(conv_a(x)) + relu(conv_b(x)): two convolutions of the same input, done as one."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, dilation: int, pairs: bool) -> None:
        super().__init__()
        width = 2 * n_out if pairs else n_out
        self.conv = nn.Conv1d(n_in, width, kernel_size, padding="same", dilation=dilation)
        self.pairs = pairs

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, length) -> (batch, n_out, length)."""
        y = F.relu(self.conv(x))
        if not self.pairs:
            return y
        a, b = y.chunk(2, dim=1)
        return a + b


class ResidualBlock(nn.Module):
    """Dilated pair-sum convolutions one after the other, plus the (projected) input."""

    def __init__(
        self, n_in: int, n_out: int, kernel_size: int, dilations: Sequence[int], pairs: bool
    ) -> None:
        super().__init__()
        widths = [n_in] + [n_out] * len(dilations)
        self.convs = nn.ModuleList(
            PairSumConv(widths[i], n_out, kernel_size, dilation, pairs)
            for i, dilation in enumerate(dilations)
        )
        self.skip = nn.Identity() if n_in == n_out else nn.Conv1d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, length) -> (batch, n_out, length)."""
        y = x
        for conv in self.convs:
            y = conv(y)
        return y + self.skip(x)


def block_widths(filters: int | Sequence[int]) -> list[int]:
    """Channels of each block; 16 gives the post's 16, 16, 32, 32, 64, 64, 128, 128."""
    if isinstance(filters, int):
        return [filters * 2 ** (block // 2) for block in range(8)]
    return list(filters)


class Conv1dRes(SpectrumClassifier):
    """Flux (batch, length) -> logits (batch, n_classes).

    Args:
        length: points of a spectrum.
        n_classes: width of the output.
        filters: channels of each block, or one number: that of the first two of eight blocks,
            doubled every two. A max-pool of 2 lies between two blocks.
        dilations: of the convolutions of a block.
        kernel_size: of those convolutions.
        pair_sum: whether each is a sum of two ReLUs, or (False) one of the same width.
        dropout: share of positions, all their channels together, that are dropped at the end.
        hidden: width of the dense layer.
        engine: "native" (kernels of this package, CPU), "plain" (torch) or "auto".
        generator: of the Glorot uniform weights; biases start at zero.
    """

    def __init__(
        self,
        length: int,
        n_classes: int,
        filters: int | Sequence[int] = 16,
        dilations: Sequence[int] = (1, 2, 4),
        kernel_size: int = 3,
        pair_sum: bool = True,
        dropout: float = 0.5,
        hidden: int = 128,
        engine: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        filters = block_widths(filters)
        widths = [1, *filters]
        self.blocks = nn.ModuleList(
            ResidualBlock(widths[i], n_out, kernel_size, dilations, pair_sum)
            for i, n_out in enumerate(filters)
        )
        self.dropout = MaskedDropout(dropout)
        self.mask_shape = (1, length >> (len(filters) - 1))  # whole positions
        self.hidden = nn.Linear(filters[-1], hidden)
        self.output = nn.Linear(hidden, n_classes)
        glorot_(self, generator)
        self.engine = choose_engine(engine, length, filters, dilations, kernel_size, pair_sum)
        self._native = (
            NativeTrunk(length, filters, dilations) if self.engine.name == "native" else None
        )

    def forward(self, flux: Tensor, kept: Tensor | None = None) -> Tensor:
        """(batch, length) -> (batch, n_classes); `kept` (batch, 1, positions): see `draw_mask`."""
        features = self.apply_dropout(self.features(flux), kept)
        return self.output(F.relu(self.hidden(features.amax(dim=2))))

    def features(self, flux: Tensor) -> Tensor:
        """Output of the last block, (batch, channels, positions)."""
        if self._native is not None and self._native.takes(flux):
            return self._native(flux, self._trunk_parameters())
        return self.plain_features(flux)

    def plain_features(self, flux: Tensor) -> Tensor:
        """`features` in torch's own operations."""
        x = flux[:, None]  # (batch, 1, length)
        for i, block in enumerate(self.blocks):
            x = block(F.max_pool1d(x, 2) if i else x)
        return x

    def _trunk_parameters(self) -> list[Tensor]:
        return list(self.blocks.parameters())
