"""Stacks of dense layers on the CPU, by the kernels in native/dense.cpp.

The rows of a cell are cut into shares by their number alone; each share sums its own weight
gradient and those are added in order, so results do not depend on the number of threads. The
threads are OpenMP's, the same that torch uses: two pools would wait for each other's cores. A
thread has the same cells and shares at every call, so that they stay in its core's cache.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER

SOURCE = Path(__file__).parent / "native" / "dense.cpp"
ACTIVATIONS = ("linear", "relu", "tanh")
FLOAT32, IN_VECTORS, IN_TILES = 0, 1, 2  # formats of dense.cpp; bfloat16 in either registers


class Call(ctypes.Structure):
    """Arrays of all cells, as dense.cpp has them."""

    _fields_: ClassVar = [
        ("cells", INT),
        ("rows", INT),
        ("threads", INT),
        ("input", POINTER),
        ("shared_input", ctypes.c_bool),
        ("x", POINTER),
        ("shared_x", ctypes.c_bool),
        ("images", INT),
        ("k", INT),
    ]


SIGNATURES: build.Signatures = {
    "dense_bfloat16_format": ((), INT),
    "dense_plan": ((INT, INT, POINTER, INT, INT, INT), POINTER),
    "dense_free": ((POINTER,), None),
    "dense_record_bytes": ((POINTER, INT), ctypes.c_int64),
    "dense_forward": ((POINTER,) * 5, None),
    "dense_backward": ((POINTER,) * 8, None),
    "dense_log_weights": ((POINTER,) * 5, None),
    "dense_normals": ((ctypes.c_uint64, ctypes.c_int64, INT, POINTER), None),
    "autoencoder_bytes": ((POINTER,) * 2, ctypes.c_int64),
    "autoencoder_forward": ((POINTER,) * 5, None),
    "autoencoder_backward": ((POINTER,) * 7, None),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; NotAvailable says why they cannot be had."""
    return build.load(SOURCE, SIGNATURES, "-fopenmp")


def obstacle() -> str | None:
    """Why the kernels cannot be had here, or None."""
    return build.obstacle(library)


def takes(tensors: Sequence[Tensor]) -> bool:
    """Whether the kernels compute with these: float32 on the CPU, autocast off or bfloat16."""
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors):
        return False
    if not torch.is_autocast_enabled("cpu"):
        return True
    fast = torch.get_autocast_dtype("cpu") == torch.bfloat16
    return fast and bfloat16_format() != FLOAT32


@functools.cache
def bfloat16_format() -> int:
    """The fastest format of bfloat16 products here, or FLOAT32."""
    return int(library().dense_bfloat16_format())


def stack(x: Tensor, parameters: Sequence[Tensor], activation: str, last: str) -> Tensor:
    """Dense layers applied to x (cells or 1, rows, inputs); (cells, rows, outputs) float32.

    `parameters`: weight (cells, inputs, outputs) and bias (cells, 1, outputs) of each layer in
    turn; `activation` follows every layer but the last, which has `last`.
    """
    return _apply(x, None, 1, parameters, activation, last)


def bernoulli_log_likelihood(
    z: Tensor, x: Tensor, k: int, parameters: Sequence[Tensor], activation: str
) -> Tensor:
    """Sum over the pixels of x l - log(1 + exp l), with the logits l = layers(z).

    z (cells, images * k, latents), x (cells or 1, images, pixels), the k rows of an image next to
    each other; (cells, images * k) float32.
    """
    return _apply(z, x.contiguous(), k, parameters, activation, "linear")


def _apply(
    rows: Tensor,
    x: Tensor | None,
    k: int,
    parameters: Sequence[Tensor],
    activation: str,
    last: str,
) -> Tensor:
    bfloat16 = torch.is_autocast_enabled("cpu")
    chosen = plan(bfloat16, rows.shape[-1], parameters, activation, last, x is not None)
    with torch.autocast("cpu", enabled=False):
        rows, parameters = rows.contiguous(), [parameter.contiguous() for parameter in parameters]
        wanted = rows.requires_grad or any(p.requires_grad for p in parameters)
        if torch.is_grad_enabled() and wanted:
            result: Tensor = _Stack.apply(chosen, rows, x, k, *parameters)
            return result
        return chosen.run(rows, x, k, parameters, keep=False)[0]


def plan(
    bfloat16: bool,
    inputs: int,
    parameters: Sequence[Tensor],
    activation: str,
    last: str,
    bernoulli: bool,
) -> Plan:
    """The plan of a stack with these parameters; `bernoulli`: it ends in the log-likelihood."""
    sizes = (inputs, *(bias.shape[-1] for bias in parameters[1::2]))
    number_format = bfloat16_format() if bfloat16 else FLOAT32
    return _plan(
        number_format, sizes, ACTIVATIONS.index(activation), ACTIVATIONS.index(last), bernoulli
    )


@dataclass
class Run:
    """What `backward` needs of a forward pass.

    Nothing that the graph gave out may be in here: it would own the node that owns this, and
    neither would ever be freed.
    """

    call: Call
    records: Tensor


class Plan:
    """Sizes and activations of a stack in one number format, and its kernels."""

    def __init__(
        self,
        number_format: int,
        sizes: tuple[int, ...],
        activation: int,
        last: int,
        bernoulli: bool,
    ) -> None:
        self._library = library()
        array = (ctypes.c_int * len(sizes))(*sizes)
        handle = self._library.dense_plan(
            number_format, len(sizes), array, activation, last, int(bernoulli)
        )
        weakref.finalize(self, self._library.dense_free, handle)
        self.handle, self.sizes, self.bernoulli = handle, sizes, bernoulli

    def run(
        self, rows: Tensor, x: Tensor | None, k: int, parameters: Sequence[Tensor], keep: bool
    ) -> tuple[Tensor, Run | None]:
        """Rows (cells or 1, n, inputs) through the stack of every cell: the result, float32.

        `keep`: what `backward` needs. Parameters must be contiguous here and there.
        """
        cells, n = parameters[0].shape[0], rows.shape[1]
        images = 0 if x is None else x.shape[1]
        call = Call(
            cells,
            n,
            torch.get_num_threads(),
            rows.data_ptr(),
            rows.shape[0] < cells,
            None if x is None else x.data_ptr(),
            x is not None and x.shape[0] < cells,
            images,
            k,
        )
        result = torch.empty(cells, n) if self.bernoulli else torch.empty(cells, n, self.sizes[-1])
        records = None
        if keep:
            size = cells * self._library.dense_record_bytes(self.handle, n)
            records = torch.empty(size, dtype=torch.uint8)
        self._library.dense_forward(
            self.handle,
            ctypes.byref(call),
            pointers(parameters),
            None if records is None else records.data_ptr(),
            result.data_ptr(),
        )
        call.input = call.x = None  # not needed again
        return result, None if records is None else Run(call, records)

    def backward(
        self,
        done: Run,
        parameters: Sequence[Tensor],
        result: Tensor,
        to_result: Tensor,
        to_rows: Tensor | None,
    ) -> list[Tensor]:
        """Gradients of the parameters; `to_rows` (cells, n, inputs) is filled where it is given."""
        cells = to_result.shape[0]
        gradients = [
            torch.empty(shape)
            for inputs, outputs in pairwise(self.sizes)
            for shape in ((cells, inputs, outputs), (cells, 1, outputs))
        ]
        self._library.dense_backward(
            self.handle,
            ctypes.byref(done.call),
            pointers(parameters),
            done.records.data_ptr(),
            result.data_ptr(),
            to_result.data_ptr(),
            pointers(gradients),
            None if to_rows is None else to_rows.data_ptr(),
        )
        return gradients


@functools.lru_cache(maxsize=32)
def _plan(
    number_format: int, sizes: tuple[int, ...], activation: int, last: int, bernoulli: bool
) -> Plan:
    return Plan(number_format, sizes, activation, last, bernoulli)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, rows: Tensor, x: Tensor | None, k: int, *parameters: Tensor
    ) -> Tensor:
        result, ctx.done = plan.run(rows, x, k, parameters, keep=True)
        ctx.plan, ctx.inputs = plan, rows.shape
        ctx.save_for_backward(result, *parameters)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_result: Tensor) -> tuple[Tensor | None, ...]:
        to_rows = None
        if ctx.needs_input_grad[1]:
            to_rows = torch.empty(to_result.shape[0], *ctx.inputs[1:])
        result, *parameters = ctx.saved_tensors
        gradients = ctx.plan.backward(ctx.done, parameters, result, to_result.contiguous(), to_rows)
        if to_rows is not None and ctx.inputs[0] != to_rows.shape[0]:
            to_rows = to_rows.sum(0, keepdim=True)
        return None, to_rows, None, None, *gradients


def pointers(tensors: Sequence[Tensor | None]) -> Any:
    """A C array of where the tensors' numbers are; null for None."""
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    return (ctypes.c_void_p * len(tensors))(*addresses)
