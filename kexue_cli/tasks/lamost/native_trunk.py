"""The residual blocks of conv1d_res on the CPU, by the kernels in native/trunk.cpp.

A batch is cut into chunks of fixed size that threads take one after the other; each chunk sums
its own weight gradient and those are added in order, so results do not depend on the number of
threads. A thread waits for nobody: a core that is busy elsewhere costs its share and no more.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.errors import ConfigError
from kexue_cli.native import build
from kexue_cli.tasks.lamost import native_build

CHUNK = 16  # spectra of one piece of work: small enough to share out, large enough to reuse weights
LANES = 16


@dataclass(frozen=True)
class Engine:
    """Which implementation computes the blocks on the CPU, and why."""

    name: str
    reason: str


def choose_engine(
    asked: str,
    length: int,
    filters: Sequence[int],
    dilations: Sequence[int],
    kernel_size: int,
    pair_sum: bool,
) -> Engine:
    """`asked` ("auto", "native" or "plain"), or for "auto" the fastest that works here.

    Raises:
        ConfigError: "native" was asked for and cannot be had.
    """
    if asked == "plain":
        return Engine("plain", "asked for")
    obstacle = _obstacle(length, filters, kernel_size, pair_sum)
    if obstacle is None:
        return Engine("native", "AVX-512 kernels for the CPU, at least twice as fast as torch's")
    if asked == "native":
        raise ConfigError("model.engine", f"native cannot be had: {obstacle}")
    return Engine("plain", f"the native kernels cannot be had: {obstacle}")


def _obstacle(length: int, filters: Sequence[int], kernel_size: int, pair_sum: bool) -> str | None:
    if kernel_size != 3:
        return f"they have kernel size 3, not {kernel_size}"
    if not pair_sum:
        return "they have the pair-sum built in"
    if any(width % LANES for width in filters):
        return f"they need filters in multiples of {LANES}"
    if length >> (len(filters) - 1) < 1:
        return f"{length} points are too few for {len(filters) - 1} max-pools"
    return build.obstacle(native_build.library)


class NativeTrunk:
    """Flux (batch, length) -> features (batch, channels, positions), with weight gradients.

    float32, or bfloat16 products with float32 sums where autocast asks for bfloat16.
    """

    def __init__(self, length: int, filters: Sequence[int], dilations: Sequence[int]) -> None:
        if min(dilations, default=0) < 1:  # the kernels would read beyond their rows
            raise ConfigError(
                "model.dilations", f"one or more numbers above 0, found {list(dilations)}"
            )
        self.length, self.filters = length, tuple(filters)
        self.dilations = tuple(dilations)

    def takes(self, flux: Tensor) -> bool:
        """Whether it computes this input: of its length, on the CPU, float32, without gradient."""
        if flux.shape[1:] != (self.length,):
            return False
        if flux.device.type != "cpu" or flux.dtype != torch.float32 or flux.requires_grad:
            return False
        if not torch.is_autocast_enabled("cpu"):
            return True
        fast = torch.get_autocast_dtype("cpu") == torch.bfloat16
        return fast and bool(native_build.library().trunk_has_bfloat16())

    def __call__(self, flux: Tensor, parameters: list[Tensor]) -> Tensor:
        """Features of the last block; `parameters` as the blocks list them, (out, in, taps)."""
        bfloat16 = torch.is_autocast_enabled("cpu")
        plan = _plan(bfloat16, self.length, self.filters, self.dilations)
        with torch.autocast("cpu", enabled=False):
            if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
                features = _Trunk.apply(plan, flux.contiguous(), *parameters)
            else:
                features = plan.predict(flux.contiguous(), parameters)
        return features.transpose(1, 2)


class _Plan:
    """Sizes and addresses for one length, width and number format."""

    def __init__(
        self, bfloat16: bool, length: int, filters: tuple[int, ...], dilations: tuple[int, ...]
    ) -> None:
        self._library = native_build.library()
        handle = self._library.trunk_plan(
            int(bfloat16),
            length,
            1,
            len(filters),
            (ctypes.c_int * len(filters))(*filters),
            len(dilations),
            (ctypes.c_int * len(dilations))(*dilations),
        )
        weakref.finalize(self, self._library.trunk_free, handle)
        self.handle = handle
        self.record_bytes = self._library.trunk_record_bytes(handle)
        self.packed_bytes = self._library.trunk_packed_bytes(handle)
        self.gradient_floats = self._library.trunk_gradient_floats(handle)
        self.positions, self.channels = length >> (len(filters) - 1), filters[-1]

    def pack(self, parameters: Sequence[Tensor]) -> Tensor:
        """The weights in the order the kernels read them."""
        kept = [parameter.detach().contiguous() for parameter in parameters]
        pointers = (ctypes.c_void_p * len(kept))(*(tensor.data_ptr() for tensor in kept))
        packed = torch.empty(self.packed_bytes, dtype=torch.uint8)
        self._library.trunk_pack(self.handle, pointers, packed.data_ptr())
        return packed

    def predict(self, flux: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Features (batch, positions, channels); each thread reuses one set of records."""
        packed, features = self.pack(parameters), self._features(len(flux))

        def chunk(begin: int, end: int) -> None:
            records = torch.empty((end - begin) * self.record_bytes, dtype=torch.uint8)
            self._forward(packed, flux, begin, end, records.data_ptr(), False, features)

        _share_out(chunk, len(flux))
        return features

    def forward(self, packed: Tensor, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and the records that `backward` needs."""
        features = self._features(len(flux))
        records = torch.empty(len(flux) * self.record_bytes, dtype=torch.uint8)

        def chunk(begin: int, end: int) -> None:
            place = records.data_ptr() + begin * self.record_bytes
            self._forward(packed, flux, begin, end, place, True, features)

        _share_out(chunk, len(flux))
        return features, records

    def backward(self, packed: Tensor, records: Tensor, to_features: Tensor) -> Tensor:
        """Gradient of all weights and biases in one row, (gradient_floats,)."""
        n_chunks = -(-len(to_features) // CHUNK)
        gradients = torch.zeros(n_chunks, self.gradient_floats)

        def chunk(begin: int, end: int) -> None:
            self._library.trunk_backward(
                self.handle,
                packed.data_ptr(),
                records.data_ptr() + begin * self.record_bytes,
                end - begin,
                to_features[begin].data_ptr(),
                gradients[begin // CHUNK].data_ptr(),
            )

        _share_out(chunk, len(to_features))
        return gradients.sum(dim=0)

    def _features(self, batch: int) -> Tensor:
        return torch.empty(batch, self.positions, self.channels)

    def _forward(
        self,
        packed: Tensor,
        flux: Tensor,
        begin: int,
        end: int,
        records: int,
        keep: bool,
        features: Tensor,
    ) -> None:
        self._library.trunk_forward(
            self.handle,
            packed.data_ptr(),
            flux[begin].data_ptr(),
            end - begin,
            records,
            int(keep),
            features[begin].data_ptr(),
        )


@functools.lru_cache(maxsize=8)
def _plan(
    bfloat16: bool, length: int, filters: tuple[int, ...], dilations: tuple[int, ...]
) -> _Plan:
    return _Plan(bfloat16, length, filters, dilations)


class _Trunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, flux: Tensor, *parameters: Tensor) -> Tensor:
        packed = plan.pack(parameters)
        features, records = plan.forward(packed, flux)
        ctx.plan, ctx.packed, ctx.records = plan, packed, records
        ctx.shapes = [parameter.shape for parameter in parameters]
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_features: Tensor) -> tuple[Tensor | None, ...]:
        row = ctx.plan.backward(ctx.packed, ctx.records, to_features.contiguous())
        gradients, begin = [], 0
        for shape in ctx.shapes:
            piece = row[begin : begin + shape.numel()]
            begin += shape.numel()
            if len(shape) == 3:  # kernels write (taps, in, out)
                piece = piece.view(shape[2], shape[1], shape[0]).permute(2, 1, 0).contiguous()
            gradients.append(piece)
        return None, None, *gradients


def _share_out(work: Callable[[int, int], None], batch: int) -> None:
    """`work(begin, end)` for every chunk of a batch, by as many threads as torch uses."""
    pieces = [(begin, min(begin + CHUNK, batch)) for begin in range(0, batch, CHUNK)]
    threads = torch.get_num_threads()
    if threads == 1 or len(pieces) == 1:
        for begin, end in pieces:
            work(begin, end)
        return
    for _ in _pool(threads).map(lambda piece: work(*piece), pieces):
        pass


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lamost-trunk")
