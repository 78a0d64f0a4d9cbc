"""A dense auto-encoder with normal latents and binary pixels as one node of the autograd graph.

Encoder, draw, densities and decoder are some fifty small operations; with a batch of 20 their
bookkeeping costs more than their arithmetic. Here both passes are one call each of
native/autoencoder.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.native.build import INT, POINTER
from kexue_cli.tasks.vae import dense
from kexue_cli.tasks.vae.latents import LOG_VAR_RANGE


class Densities(NamedTuple):
    """Of k draws: log-densities (cells, batch, k), z (cells, batch, k, latents), q's parameters.

    `log_weights`: the first plus the second less the third.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    log_weights: Tensor
    z: Tensor
    mean: Tensor
    log_var: Tensor


@dataclass
class Network:
    """Parameters: weight and bias of each layer in turn, as `dense.stack` takes them."""

    encoder: list[Tensor]
    heads: list[Tensor]  # of the mean, of log_var
    decoder: list[Tensor]
    encoder_activation: str
    decoder_activation: str
    factor: float  # log_var is this times the second head
    _kernels: dict[tuple[bool, int], _Kernels] = field(default_factory=dict)

    @property
    def parameters(self) -> list[Tensor]:
        """All, in the order of the fields."""
        return [*self.encoder, *self.heads, *self.decoder]

    def kernels(self, bfloat16: bool, pixels: int) -> _Kernels:
        """Both passes for images of that many pixels."""
        key = bfloat16, pixels
        if key not in self._kernels:
            act = self.encoder_activation
            encoder = dense.plan(bfloat16, pixels, self.encoder, act, act, False)
            features, latents = self.heads[0].shape[1:]
            head = dense.plan(False, features, self.heads[:2], "linear", "linear", False)
            act = self.decoder_activation
            decoder = dense.plan(bfloat16, latents, self.decoder, act, "linear", True)
            self._kernels[key] = _Kernels(encoder, head, decoder, self.factor)
        return self._kernels[key]


def densities(network: Network, x: Tensor, noise: Tensor) -> Densities:
    """Images x (cells or 1, batch, pixels), noise (cells, batch, k, latents), all float32."""
    bfloat16 = torch.is_autocast_enabled("cpu")
    kernels = network.kernels(bfloat16, x.shape[-1])
    found = _Fused.apply(kernels, x.contiguous(), noise.contiguous(), *network.parameters)
    return Densities(*found)


@torch.no_grad()
def log_weights(network: Network, x: Tensor, mean: Tensor, log_var: Tensor, k: int) -> Tensor:
    """Log p(x,z)/q(z|x) of k new draws z, (cells, batch, k) float32; without gradient.

    Images x (cells or 1, batch, pixels), q's parameters (cells, batch, latents), all float32. Draws
    are made where they are used and never stored; one number of torch's generator seeds them all.
    """
    decoder = network.kernels(torch.is_autocast_enabled("cpu"), x.shape[-1]).plans[2]
    x, mean, log_var = x.contiguous(), mean.contiguous(), log_var.contiguous()
    cells, images, latents = mean.shape
    threads, shared = torch.get_num_threads(), x.shape[0] < cells
    rows = images * k
    call = dense.Call(cells, rows, threads, None, False, x.data_ptr(), shared, images, k)
    seed = int(torch.randint(2**63 - 1, ()))
    posteriors = _Posteriors(mean.data_ptr(), log_var.data_ptr(), latents, k, seed)
    parameters = [parameter.contiguous() for parameter in network.decoder]
    result = torch.empty(cells, images, k)
    dense.library().dense_log_weights(
        decoder.handle,
        ctypes.byref(call),
        ctypes.byref(posteriors),
        dense.pointers(parameters),
        result.data_ptr(),
    )
    return result


def normals(seed: int, draws: int, latents: int) -> Tensor:
    """The noise of `log_weights` with that seed, (draws, latents) float32."""
    found = torch.empty(draws, latents)
    dense.library().dense_normals(seed, draws, latents, found.data_ptr())
    return found


class _Posteriors(ctypes.Structure):
    """As native/draws.h has them."""

    _fields_: ClassVar = [
        *((name, POINTER) for name in ("mean", "log_var")),
        *((name, INT) for name in ("latents", "k")),
        ("seed", ctypes.c_uint64),
    ]


class _Sizes(ctypes.Structure):
    """Network of native/autoencoder.h."""

    _fields_: ClassVar = [
        *((name, POINTER) for name in ("encoder", "head", "decoder")),
        *((name, ctypes.c_float) for name in ("factor", "low", "high")),
    ]


class _Batch(ctypes.Structure):
    """Batch of native/autoencoder.h."""

    _fields_: ClassVar = [
        *((name, INT) for name in ("cells", "images", "k", "threads")),
        ("x", POINTER),
        ("shared_x", ctypes.c_bool),
        ("noise", POINTER),
    ]


class _Kernels:
    """A network's plans, and both passes."""

    def __init__(self, encoder: dense.Plan, head: dense.Plan, decoder: dense.Plan, factor: float):
        self.plans = encoder, head, decoder  # which must live as long as their handles are used
        handles = (plan.handle for plan in self.plans)
        self.sizes = _Sizes(*handles, factor, *LOG_VAR_RANGE)
        self.latents = head.sizes[-1]
        self.shapes = [
            shape
            for plan in (encoder, head, head, decoder)
            for inputs, outputs in pairwise(plan.sizes)
            for shape in ((inputs, outputs), (1, outputs))
        ]
        self.of_decoder = 2 * (len(decoder.sizes) - 1)

    def batch(self, x: Tensor, noise: Tensor) -> _Batch:
        """As the library takes it; x and the noise must live as long as it is used."""
        cells, images, k, _ = noise.shape
        threads, shared = torch.get_num_threads(), x.shape[0] < cells
        return _Batch(cells, images, k, threads, x.data_ptr(), shared, noise.data_ptr())

    def forward(
        self, batch: _Batch, parameters: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The fields of `Densities`, and what `backward` needs."""
        rows = (batch.cells, batch.images)
        draws = (*rows, batch.k)
        found = (
            *(torch.empty(draws) for _ in range(4)),
            torch.empty(*draws, self.latents),
            *(torch.empty(*rows, self.latents) for _ in range(2)),
        )
        library, sizes, given = dense.library(), ctypes.byref(self.sizes), ctypes.byref(batch)
        workspace = torch.empty(library.autoencoder_bytes(sizes, given), dtype=torch.uint8)
        library.autoencoder_forward(
            sizes, given, dense.pointers(parameters), workspace.data_ptr(), dense.pointers(found)
        )
        return found, workspace

    def backward(
        self,
        batch: _Batch,
        parameters: Sequence[Tensor],
        workspace: Tensor,
        z: Tensor,
        to: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """Gradients of the parameters from those of the fields of `Densities`."""
        shapes = self.shapes
        if to[0] is None and to[3] is None:  # nothing comes through the decoder
            shapes = shapes[: -self.of_decoder]
        gradients = [torch.empty(batch.cells, *shape) for shape in shapes]
        missing = [None] * (len(self.shapes) - len(shapes))
        given = [None if tensor is None else tensor.contiguous() for tensor in to]
        dense.library().autoencoder_backward(
            ctypes.byref(self.sizes),
            ctypes.byref(batch),
            dense.pointers(parameters),
            workspace.data_ptr(),
            z.data_ptr(),
            dense.pointers(given),
            dense.pointers([*gradients, *missing]),
        )
        return [*gradients, *missing]


class _Fused(torch.autograd.Function):
    """Both passes as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, kernels: _Kernels, x: Tensor, noise: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        """The fields of `Densities`."""
        ctx.set_materialize_grads(False)
        ctx.kernels, ctx.batch = kernels, kernels.batch(x, noise)
        contiguous = [parameter.contiguous() for parameter in parameters]
        found, ctx.workspace = kernels.forward(ctx.batch, contiguous)
        ctx.save_for_backward(x, noise, found[4], *contiguous)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *to: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of every parameter; of x and of the noise there is none."""
        _, _, z, *parameters = ctx.saved_tensors
        return None, None, None, *ctx.kernels.backward(ctx.batch, parameters, ctx.workspace, z, to)
