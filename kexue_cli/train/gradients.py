"""Gradients of several ranks and micro-batches as one gradient."""

from __future__ import annotations

import torch
from torch import nn

from kexue_cli.run.ranks import Ranks
from kexue_cli.train.sharding import is_sharded

BUCKET_BYTES = 64 * 2**20


def sum_over_ranks_(model: nn.Module, ranks: Ranks, scale: float) -> None:
    """Replace every gradient by its sum over all ranks times `scale`, bucket by bucket.

    A parameter without gradient on this rank counts as zero, since others may have one. Gradients
    of sharded parameters come as means over the ranks.
    """
    sharded = [p.grad for p in model.parameters() if p.grad is not None and is_sharded(p)]
    if sharded:
        torch._foreach_mul_(sharded, scale * ranks.size)
        return
    bucket: list[torch.Tensor] = []
    size = 0
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.grad.numel() * parameter.grad.element_size()
        if size >= BUCKET_BYTES:
            _reduce_bucket_(bucket, ranks, scale)
            bucket, size = [], 0
    if bucket:
        _reduce_bucket_(bucket, ranks, scale)


def _reduce_bucket_(gradients: list[torch.Tensor], ranks: Ranks, scale: float) -> None:
    if ranks.size == 1:
        torch._foreach_mul_(gradients, scale)
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    ranks.all_reduce_(flat).mul_(scale)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
