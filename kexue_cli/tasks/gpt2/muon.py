"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024), many matrices at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kexue_cli.run.device import cpu_has_bf16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
ADAM_RMS = 0.2  # size of Adam's updates, to which Muon's are scaled (Liu et al. 2025)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearly the nearest orthogonal matrix of each of (matrix, rows, columns): singular values → 1.

    Newton-Schulz iteration X ← a X + (b A + c A²) X with A = X Xᵀ, in bfloat16 where the processor
    multiplies it natively.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if x.device.type == "cuda" or cpu_has_bf16():
        x = x.bfloat16()
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT  # (matrix, rows, rows)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, updates as large as Adam's.

    The same as torch.optim.Muon(adjust_lr_fn="match_rms_adamw"), but matrices of one shape are
    stacked, which on small models takes a fraction of the time.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                self._step(group, parameters, ADAM_RMS * max(shape) ** 0.5)

    def _step(self, group: dict[str, Any], parameters: list[nn.Parameter], size: float) -> None:
        """Update matrices of one shape."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalised(torch.stack(list(nesterov)))
        values: list[Tensor] = [parameter.data for parameter in parameters]
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, list(updates.unbind(0)), alpha=-group["lr"] * size)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
