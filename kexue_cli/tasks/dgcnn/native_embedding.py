"""dropout(characters[ids] + words) on the CPU in one pass over the rows, and one back."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.tasks.dgcnn.native_kernels import Dropout, call, draw_dropout, number_format


class _Shape(ctypes.Structure):
    """`EmbeddingShape` of embedding.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("rows", "channels", "threads")),
        ("dropout", Dropout),
    )


def embedding(
    ids: Tensor, characters: Tensor, words: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """(batch, length, c) in the kernels' number format.

    Args:
        ids: (batch, length).
        characters: the table, (n, c) float32.
        words: (batch, length, c), or None for nothing.
        dropout: share of the results that become 0; which, follows from torch's global generator.

    Raises:
        IndexError: an id that the table has not.
    """
    lowest, highest = ids.aminmax()
    if lowest < 0 or highest >= len(characters):
        raise IndexError(f"ids from {lowest} to {highest} of a table of {len(characters)}")
    shape = _Shape(ids.numel(), characters.shape[1], torch.get_num_threads(), draw_dropout(dropout))
    dtype = number_format()
    words = None if words is None else words.to(dtype).contiguous()
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _Embedding.apply(ids.contiguous(), characters, words, shape, dtype)
    return found


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        characters: Tensor,
        words: Tensor | None,
        shape: _Shape,
        dtype: torch.dtype,
    ) -> Tensor:
        """Ids (batch, length) -> (batch, length, channels) in `dtype`."""
        result = torch.empty(*ids.shape, characters.shape[1], dtype=dtype)
        call("embedding_forward", dtype, shape, ids, characters, words, result)
        ctx.shape, ctx.size, ctx.has_words = shape, characters.shape, words is not None
        ctx.save_for_backward(ids)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_words = torch.empty_like(gradient) if ctx.has_words else None
        to_characters = torch.zeros(ctx.size)
        results = to_words, to_characters
        call("embedding_backward", gradient.dtype, ctx.shape, ids, gradient, *results)
        return None, to_characters, to_words, None, None
