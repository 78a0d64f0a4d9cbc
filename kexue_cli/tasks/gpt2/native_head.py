"""The head and its cross entropy in one, by the kernels in native/head.h.

The gradient takes the place of the logits, in memory that the next step uses again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.tasks.gpt2.native_trunk import NativeTrunk, library


def summed_loss(trunk: NativeTrunk, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy in nats, summed over the targets that are not negative.

    Args:
        trunk: of this model; keeps the memory of the logits between steps.
        states: (row, time, width), after the last norm.
        weight: of the head, (vocabulary, width).
        targets: (row, time).
    """
    flat = states.flatten(0, 1).contiguous()
    total: Tensor = _HeadLoss.apply(trunk, flat, weight, targets.flatten().contiguous())
    return total


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, trunk: NativeTrunk, states: Tensor, weight: Tensor, targets: Tensor
    ) -> Tensor:
        sizes = (*states.shape, weight.shape[0], torch.get_num_threads())
        logits, losses = trunk.logits.take(len(states) * weight.shape[0]), torch.empty(len(states))
        places = (states, weight, targets, logits, losses)
        library().head_loss_forward(*sizes, *(place.data_ptr() for place in places))
        ctx.save_for_backward(states, weight)
        ctx.trunk, ctx.sizes, ctx.logits = trunk, sizes, logits
        return losses.double().sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_total: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        to_states, to_weight = torch.empty_like(states), torch.empty_like(weight)
        library().head_loss_backward(
            *ctx.sizes, states.data_ptr(), weight.data_ptr(), float(to_total),
            *(place.data_ptr() for place in (ctx.logits, to_states, to_weight)),
        )  # fmt: skip
        ctx.trunk.logits.give_back(ctx.logits)
        return None, to_states, to_weight, None
