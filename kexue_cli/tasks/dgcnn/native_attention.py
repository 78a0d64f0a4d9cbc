"""Self-attention on the CPU, forward and backward, by the kernels in native/."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.tasks.dgcnn.native_block import COLUMNS
from kexue_cli.tasks.dgcnn.native_kernels import call, number_format


class _Shape(ctypes.Structure):
    """`AttentionShape` of attention.h."""

    _fields_ = tuple(
        (name, ctypes.c_int32) for name in ("batch", "length", "channels", "heads", "threads")
    )


def takes(rows: Tensor, n_heads: int) -> bool:
    """Whether they compute this input: on the CPU, float32, or bfloat16 under autocast."""
    if rows.device.type != "cpu" or rows.shape[2] % (3 * n_heads * COLUMNS):
        return False
    return rows.dtype in (torch.float32, torch.bfloat16) and number_format() is not None


def self_attention(rows: Tensor, mask: Tensor, n_heads: int) -> Tensor:
    """softmax(q k / sqrt(d)) v of each head, (batch, length, c); zero behind a text's end.

    Args:
        rows: (batch, length, 3 c), queries, keys and values side by side.
        mask: (batch, length), of the keys.
    """
    rows, mask = rows.to(number_format()).contiguous(), mask.contiguous()
    batch, length, width = rows.shape
    shape = _Shape(batch, length, width // 3, n_heads, torch.get_num_threads())
    if torch.is_grad_enabled() and rows.requires_grad:
        seen: Tensor = _Attention.apply(rows, mask, shape)
        return seen
    return _forward(rows, mask, shape, None)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, mask: Tensor, shape: _Shape) -> Tensor:
        totals = torch.empty(shape.batch, shape.heads, shape.length)
        ctx.shape = shape
        ctx.save_for_backward(rows, mask, totals)
        return _forward(rows, mask, shape, totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_seen: Tensor) -> tuple[Tensor, None, None]:
        rows, mask, totals = ctx.saved_tensors
        to_rows = torch.empty_like(rows)
        parts = rows, mask, to_seen.contiguous(), totals, to_rows
        call("attention_backward", rows.dtype, ctx.shape, *parts)
        return to_rows, None, None


def _forward(rows: Tensor, mask: Tensor, shape: _Shape, totals: Tensor | None) -> Tensor:
    seen = torch.empty(shape.batch, shape.length, shape.channels, dtype=rows.dtype)
    call("attention_forward", rows.dtype, shape, rows, mask, seen, totals)
    return seen
