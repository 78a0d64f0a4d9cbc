"""Stacks of dense layers on the CPU, by the kernels in native/dense.cpp.

The rows of a cell are cut into shares of fixed size that threads take one after the other; each
share sums its own weight gradient and those are added in order, so results do not depend on the
number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER, NotAvailable

SOURCE = Path(__file__).parent / "native" / "dense.cpp"
SIGNATURES: build.Signatures = {
    "dense_has_bfloat16": ((), INT),
    "dense_plan": ((INT, INT, POINTER, INT, INT, INT), POINTER),
    "dense_free": ((POINTER,), None),
    "dense_packed_bytes": ((POINTER,), ctypes.c_int64),
    "dense_record_bytes": ((POINTER, INT), ctypes.c_int64),
    "dense_pack": ((POINTER, POINTER, INT, POINTER), None),
    "dense_forward": (
        (POINTER, POINTER, POINTER, INT, POINTER, INT, INT, POINTER, POINTER),
        None,
    ),
    "dense_backward": (
        (POINTER, POINTER, POINTER, INT, POINTER, POINTER, POINTER, POINTER),
        None,
    ),
}
ACTIVATIONS = ("linear", "relu", "tanh")
SHARE = 480  # rows of one piece of work: a multiple of the 120 that pass all layers at once


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; NotAvailable says why they cannot be had."""
    return build.load(SOURCE, SIGNATURES)


def obstacle() -> str | None:
    """Why the kernels cannot be had here, or None."""
    try:
        library()
    except NotAvailable as error:
        return str(error)
    return None


def takes(tensors: Sequence[Tensor]) -> bool:
    """Whether the kernels compute with these: float32 on the CPU, autocast off or bfloat16."""
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors):
        return False
    if not torch.is_autocast_enabled("cpu"):
        return True
    fast = torch.get_autocast_dtype("cpu") == torch.bfloat16
    return fast and bool(library().dense_has_bfloat16())


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
        rows = rows.contiguous()
        wanted = rows.requires_grad or any(p.requires_grad for p in parameters)
        if torch.is_grad_enabled() and wanted:
            result: Tensor = _Stack.apply(chosen, rows, x, k, *parameters)
            return result
        return chosen.run(rows, x, k, parameters, keep="nothing").result


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
    return _plan(bfloat16, sizes, ACTIVATIONS.index(activation), ACTIVATIONS.index(last), bernoulli)


class Run:
    """One forward pass; packed weights and records are what `backward` needs."""

    def __init__(self, packed: Tensor, records: list[Tensor | None], result: Tensor) -> None:
        self.packed, self.records, self.result = packed, records, result


class Plan:
    """Sizes and activations of a stack in one number format, and its kernels."""

    def __init__(
        self, bfloat16: bool, sizes: tuple[int, ...], activation: int, last: int, bernoulli: bool
    ) -> None:
        self._library = library()
        array = (ctypes.c_int * len(sizes))(*sizes)
        handle = self._library.dense_plan(
            int(bfloat16), len(sizes), array, activation, last, int(bernoulli)
        )
        weakref.finalize(self, self._library.dense_free, handle)
        self.handle, self.sizes, self.bernoulli = handle, sizes, bernoulli
        self.packed_bytes = self._library.dense_packed_bytes(handle)

    def run(
        self, rows: Tensor, x: Tensor | None, k: int, parameters: Sequence[Tensor], keep: str
    ) -> Run:
        """Rows (cells or 1, n, inputs) through the stack of every cell.

        `keep` is what `backward` will be asked for: "nothing" (it will not be called), "weights",
        or "weights and input".
        """
        cells, n = parameters[0].shape[0], rows.shape[1]
        kept = [parameter.contiguous() for parameter in parameters]
        packed = torch.empty(cells, self.packed_bytes, dtype=torch.uint8)
        result = torch.empty(cells, n) if self.bernoulli else torch.empty(cells, n, self.sizes[-1])
        pieces = _pieces(n)
        backwards = {"weights and input": 0, "weights": 1, "nothing": len(parameters)}[keep]
        records: list[Tensor | None] = [None] * (cells * len(pieces))

        def pack(cell: int) -> None:
            pointers = _pointers(kept, cell)
            self._library.dense_pack(self.handle, pointers, backwards, packed[cell].data_ptr())

        def forward(piece: int) -> None:
            cell, (begin, end) = piece // len(pieces), pieces[piece % len(pieces)]
            record = None
            if keep != "nothing":
                size = self._library.dense_record_bytes(self.handle, end - begin)
                record = records[piece] = torch.empty(size, dtype=torch.uint8)
            self._library.dense_forward(
                self.handle,
                packed[cell].data_ptr(),
                _of_cell(rows, cell)[begin].data_ptr(),
                end - begin,
                None if x is None else _of_cell(x, cell).data_ptr(),
                begin,
                k,
                None if record is None else record.data_ptr(),
                result[cell, begin].data_ptr(),
            )

        _share_out(pack, cells)
        _share_out(forward, cells * len(pieces))
        return Run(packed, records, result)

    def backward(self, done: Run, to_result: Tensor, to_rows: Tensor | None) -> list[Tensor]:
        """Gradients of the parameters; `to_rows` (cells, n, inputs) is filled where it is given."""
        cells, n = to_result.shape[:2]
        pieces = _pieces(n)
        shapes = [
            shape for i, o in pairwise(self.sizes) for shape in ((cells, i, o), (cells, 1, o))
        ]
        sums = [[torch.zeros(shape) for shape in shapes] for _ in pieces]

        def backward(piece: int) -> None:
            cell, share = piece // len(pieces), piece % len(pieces)
            begin, end = pieces[share]
            record = done.records[piece]
            assert record is not None
            self._library.dense_backward(
                self.handle,
                done.packed[cell].data_ptr(),
                record.data_ptr(),
                end - begin,
                done.result[cell, begin].data_ptr(),
                to_result[cell, begin].data_ptr(),
                _pointers(sums[share], cell),
                None if to_rows is None else to_rows[cell, begin].data_ptr(),
            )

        _share_out(backward, cells * len(pieces))
        for share in sums[1:]:
            for total, part in zip(sums[0], share, strict=True):
                total += part
        return sums[0]


@functools.lru_cache(maxsize=32)
def _plan(
    bfloat16: bool, sizes: tuple[int, ...], activation: int, last: int, bernoulli: bool
) -> Plan:
    return Plan(bfloat16, sizes, activation, last, bernoulli)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, rows: Tensor, x: Tensor | None, k: int, *parameters: Tensor
    ) -> Tensor:
        keep = "weights and input" if ctx.needs_input_grad[1] else "weights"
        done = plan.run(rows, x, k, parameters, keep)
        ctx.plan, ctx.done, ctx.inputs = plan, done, rows.shape
        return done.result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_result: Tensor) -> tuple[Tensor | None, ...]:
        to_rows = None
        if ctx.needs_input_grad[1]:
            to_rows = torch.empty(to_result.shape[0], *ctx.inputs[1:])
        gradients = ctx.plan.backward(ctx.done, to_result.contiguous(), to_rows)
        if to_rows is not None and ctx.inputs[0] != to_rows.shape[0]:
            to_rows = to_rows.sum(0, keepdim=True)
        return None, to_rows, None, None, *gradients


def _of_cell(tensor: Tensor, cell: int) -> Tensor:
    return tensor[cell if tensor.shape[0] > 1 else 0]


def _pieces(rows: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + SHARE, rows)) for begin in range(0, rows, SHARE)]


def _pointers(tensors: Sequence[Tensor], cell: int) -> Any:
    places = (tensor.data_ptr() + 4 * cell * tensor.stride(0) for tensor in tensors)
    return (ctypes.c_void_p * len(tensors))(*places)


def _share_out(work: Callable[[int], None], count: int) -> None:
    """`work(i)` for i = 0 .. count - 1, by as many threads as torch uses."""
    threads = torch.get_num_threads()
    if threads == 1 or count == 1:
        for i in range(count):
            work(i)
        return
    for _ in _pool(threads).map(work, range(count)):
        pass


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="vae-dense")
