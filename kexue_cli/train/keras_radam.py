"""Rectified Adam as the Keras port computes it (Liu et al. 2020; github.com/bojone/keras_radam).

It rectifies from rho_t > 4 on (torch: > 5), which is from the fifth step, takes plain steps of the
averaged gradient before that, and adds epsilon to the bias-corrected root.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class KerasRAdam(torch.optim.Optimizer):
    """p -= lr r_t mhat / (sqrt(vhat) + eps) where the rectification r_t exists, else lr mhat."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "steps": 0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            group["steps"] += 1
            self._update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        (beta1, beta2), t = group["betas"], group["steps"]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        means = [self._slot(p, "mean") for p in parameters]
        squares = [self._slot(p, "square") for p in parameters]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        rate = -group["lr"] / (1 - beta1**t)
        factor = rectification(t, beta2)
        if factor is None:
            torch._foreach_add_(parameters, means, alpha=rate)
            return
        roots = torch._foreach_div(squares, 1 - beta2**t)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(parameters, means, roots, rate * factor)

    def _slot(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        slot: Tensor = state[name]
        return slot


def rectification(t: int, beta2: float) -> float | None:
    """r_t at step `t` (from 1); None while rho_t is 4 or less."""
    last = 2 / (1 - beta2) - 1
    decayed = beta2**t
    rho = last - 2 * t * decayed / (1 - decayed)
    if rho <= 4:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * last / ((last - 4) * (last - 2) * rho))
