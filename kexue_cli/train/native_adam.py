"""torch's Adam and AdamW on a CPU in one native pass over all parameters.

Preparing torch's own takes as long as a small network's forward pass. Arithmetic and state are
those of torch's fused form: a checkpoint of either is read by the other, and 16 numbers at a time
come out the same to the last bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER

SOURCE = Path(__file__).parent / "native" / "adam.cpp"
SIGNATURES: build.Signatures = {"adam_step": ((INT, *(POINTER,) * 7, INT), None)}


class Settings(ctypes.Structure):
    """As adam.cpp has them."""

    _fields_: ClassVar = [
        *((name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "eps", "weight_decay")),
        ("decoupled", ctypes.c_bool),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernel; NotAvailable says why it cannot be had."""
    return build.load(SOURCE, SIGNATURES, "-fopenmp", "-ffp-contract=off")


@functools.cache
def available() -> bool:
    """Whether the kernel can be had here; asked at every step, so answered once."""
    return build.obstacle(library) is None


class NativeAdam(torch.optim.Adam):
    """Adam, or AdamW with `decoupled_weight_decay`; arguments as torch's.

    What the kernel does not take (other devices and types, sharded parameters, machines without
    it) goes to torch.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        groups = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        native = closure is None and available() and getattr(self, "grad_scale", None) is None
        if not native or not all(map(_takes, self.param_groups, groups)):
            return super().step(closure)
        for group, parameters in zip(self.param_groups, groups, strict=True):
            self._update(group, parameters)
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zero."""
        if not set_to_none:
            return super().zero_grad(set_to_none=False)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None

    def _update(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        states = [self._state_of(p) for p in parameters]
        moments = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]
        beta1, beta2 = group["betas"]
        decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
        settings = Settings(group["lr"], beta1, beta2, group["eps"], decay, decoupled)
        library().adam_step(
            len(parameters),
            _pointers(parameters),
            _pointers([p.grad for p in parameters if p.grad is not None]),
            *map(_pointers, moments),
            (ctypes.c_int64 * len(parameters))(*(p.numel() for p in parameters)),
            ctypes.byref(settings),
            torch.get_num_threads(),
        )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _takes(group: dict[str, Any], parameters: Sequence[Tensor]) -> bool:
    if group["amsgrad"] or group["maximize"] or isinstance(group["lr"], Tensor):
        return False
    return all(_plain(p) and p.grad is not None and _plain(p.grad) for p in parameters)


def _plain(tensor: Tensor) -> bool:
    return (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and type(tensor) in (Tensor, torch.nn.Parameter)
    )


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
