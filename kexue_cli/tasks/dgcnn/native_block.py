"""The gated dilated block on the CPU, forward and backward, by the kernels in native/.

Their convolutions are Winograd's F(2, 3): four products with combined weights where three taps at
two positions would be six. Results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.native import build
from kexue_cli.tasks.dgcnn.native_kernels import (
    Dropout,
    call,
    draw_dropout,
    library,
    number_format,
)

COLUMNS = 32  # of a tile
WIDEST = 2048  # channels
CHUNKS = 8  # shares of a batch that sum their own weight gradients
COMBINE = torch.tensor([[0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


class _Shape(ctypes.Structure):
    """`BlockShape` of gated_block.h."""

    _fields_ = (
        *((n, ctypes.c_int32) for n in ("batch", "length", "channels", "dilation", "threads")),
        ("chunks", ctypes.c_int32),
        ("locked", ctypes.c_int32),
        ("dropout", Dropout),
    )


def obstacle(n_channels: int, kernel_size: int) -> str | None:
    """Why the kernels cannot compute such blocks here, or None."""
    if kernel_size != 3:
        return f"the native kernels have 3 taps, not {kernel_size}"
    if n_channels % COLUMNS or n_channels > WIDEST:
        return f"the native kernels need channels in multiples of {COLUMNS} up to {WIDEST}"
    return build.obstacle(library)


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether they compute this input: on the CPU, float32, or bfloat16 under autocast.

    `weight` (., n_channels, ...) of a convolution or an embedding.
    """
    if x.device.type != "cpu" or weight.dtype != torch.float32 or weight.shape[1] % COLUMNS:
        return False
    return x.dtype in (torch.float32, torch.bfloat16) and number_format() is not None


def gated_block(
    x: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    dilation: int,
    dropout: float = 0.0,
    locked: bool = False,
) -> Tensor:
    """What `GatedBlock` computes; dropped gates follow from torch's global generator.

    Args:
        x: (batch, length, c), zero where masked.
        mask: (batch, length).
        weight, bias: of the convolution, (2 c, c, 3) and (2 c,).
        dropout, locked: of the gates' logits.
    """
    x, mask = x.to(number_format()).contiguous(), mask.contiguous()
    threads, chunks = torch.get_num_threads(), min(CHUNKS, len(x))
    shape = _Shape(*x.shape, dilation, threads, chunks, int(locked), draw_dropout(dropout))
    with torch.autocast("cpu", enabled=False):
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            y: Tensor = _Gated.apply(x, mask, weight, bias, shape)
            return y
        return _forward(x, mask, weight, bias, shape, None)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, shape: _Shape
    ) -> Tensor:
        slopes = torch.empty(*x.shape[:2], 2 * x.shape[2], dtype=x.dtype)
        ctx.shape = shape
        ctx.save_for_backward(x, mask, weight, slopes)
        return _forward(x, mask, weight, bias, shape, slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, slopes = ctx.saved_tensors
        chunks, c = ctx.shape.chunks, x.shape[2]
        to_x, to_y = torch.empty_like(x), to_y.contiguous()
        to_products = torch.zeros(chunks, 4, c, 2 * c)
        to_bias = torch.zeros(chunks, 2 * c)
        packed = _packed(weight.transpose(0, 1).flip(2), x.dtype, paired=False)
        results = to_x, to_products, to_bias
        call("gated_backward", x.dtype, ctx.shape, x, mask, packed, slopes, to_y, *results)
        to_weight = torch.einsum("pio,pk->oik", to_products.sum(0), COMBINE)
        return to_x, None, to_weight, to_bias.sum(0), None


def _forward(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, shape: _Shape, slopes: Tensor | None
) -> Tensor:
    y = torch.empty_like(x)
    biases = _tiles(bias.detach(), paired=True).contiguous()
    packed = _packed(weight, x.dtype, paired=True)
    call("gated_forward", x.dtype, shape, x, mask, packed, biases, y, slopes)
    return y


def _tiles(rows: Tensor, paired: bool) -> Tensor:
    """(out, ...) -> (tile, 32, ...); `paired`: a tile has 16 values and the gates of the same."""
    if not paired:
        return rows.unflatten(0, (-1, COLUMNS))
    halves = rows.unflatten(0, (2, -1, COLUMNS // 2))  # (half, tile, 16, ...)
    return halves.transpose(0, 1).flatten(1, 2)


def _packed(weight: Tensor, dtype: torch.dtype, paired: bool) -> Tensor:
    """Combined weights of (out, in, 3) as (tile, product, in / pack, 32, pack)."""
    pack = 2 if dtype == torch.bfloat16 else 1
    combined = (weight.detach() @ COMBINE.T).to(dtype)  # (out, in, product)
    tiles = _tiles(combined, paired).unflatten(
        2, (-1, pack)
    )  # (tile, 32, in / pack, pack, product)
    return tiles.permute(0, 4, 2, 1, 3).contiguous()
