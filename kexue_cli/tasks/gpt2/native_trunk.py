"""The blocks of a transformer on the CPU, forward and backward, by the kernels in native/trunk.cpp.

The sequences of a batch are divided among torch's own OpenMP threads, each of which takes its own
through all layers and back and sums its own weight gradients; those are added in order.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER
from kexue_cli.tasks.gpt2.architecture import Architecture

SOURCE = Path(__file__).parent / "native" / "trunk.cpp"
HEAD = (INT, INT, INT, INT, POINTER, POINTER)  # tokens, width, vocabulary, threads, states, weight
PASS = (POINTER, POINTER, POINTER, INT, INT)  # shape, weights, rotation, sequences, threads
SIGNATURES: build.Signatures = {
    "trunk_record_floats": ((POINTER, INT, INT, INT), ctypes.c_int64),
    "trunk_forward": ((*PASS, POINTER, POINTER, INT, POINTER), None),
    "trunk_backward": ((*PASS, POINTER, POINTER, POINTER), None),
    "head_loss_forward": ((*HEAD, POINTER, POINTER, POINTER), None),
    "head_loss_backward": ((*HEAD, ctypes.c_float, POINTER, POINTER, POINTER), None),
}
LAYERS = (
    *("attention.qkv", "attention.project", "mlp.expand", "mlp.project"),
    *("norm_1", "norm_2"),
)
ACTIVATIONS = ("relu2", "gelu_tanh", "gelu")
LANES = 16


class _Shape(ctypes.Structure):
    """`Shape` of trunk.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("layers", "time", "width", "heads", "inner")),
        ("activation", ctypes.c_int32),
        ("norms_heads", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
        ("scale", ctypes.c_float),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; NotAvailable says why they cannot be had."""
    return build.load(SOURCE, SIGNATURES, "-fopenmp")


def obstacle(arch: Architecture) -> str | None:
    """Why the kernels cannot compute this architecture here, or None."""
    widths = (arch.width, arch.head_width, arch.inner)
    reasons = (
        (arch.layout != "gpt2", f"they have GPT-2's layout, not {arch.layout}'s"),
        (arch.norm != "layer", f"they have layer norms, not {arch.norm} norms"),
        (arch.activation not in ACTIVATIONS, f"they have no {arch.activation}"),
        (any(width % LANES for width in widths), f"they need sizes in multiples of {LANES}"),
        (arch.scale_by_layer, "they scale all layers' attention alike"),
        (arch.attention_dropout + arch.residual_dropout > 0, "they have no dropout"),
    )
    for holds, reason in reasons:
        if holds:
            return reason
    return build.obstacle(library)


class NativeTrunk:
    """States (row, time, width) before the first block to those after the last one."""

    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self.records, self.logits = Memory(), Memory()

    def takes(self, x: Tensor) -> bool:
        """Whether it computes this input: on the CPU, all float32."""
        if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return False
        return x.device.type == "cpu" and x.dtype == torch.float32

    def __call__(self, x: Tensor, rotation: Tensor | None, blocks: nn.ModuleList) -> Tensor:
        """The blocks' output; `rotation` as `model.rotation_of` gives it for one row."""
        call = _Pass(self, x, rotation, [t for block in blocks for t in _tensors(block)])
        weights = [weight for weight in call.weights if weight is not None]
        if torch.is_grad_enabled() and (x.requires_grad or any(w.requires_grad for w in weights)):
            trained: Tensor = _Trunk.apply(call, x, *weights)
            return trained
        return call.forward(keep=False)


class Memory:
    """Floats that one step after the other uses: the system's fresh pages cost time."""

    def __init__(self) -> None:
        self.spare: Tensor | None = None

    def take(self, floats: int) -> Tensor:
        """Uninitialised memory for at least so many."""
        spare, self.spare = self.spare, None
        return spare if spare is not None and spare.numel() >= floats else torch.empty(floats)

    def give_back(self, memory: Tensor) -> None:
        """Nobody reads it any more."""
        self.spare = memory


class _Pass:
    """One batch on its way through the blocks and back."""

    def __init__(
        self, trunk: NativeTrunk, x: Tensor, rotation: Tensor | None, weights: list[Tensor | None]
    ) -> None:
        arch = trunk.arch
        self.trunk, self.input, self.weights = trunk, x.detach().contiguous(), weights
        self.turns = None if rotation is None else _cosines_and_sines(rotation[0, 0])
        self.shape = _Shape(
            arch.layers, x.shape[1], arch.width, arch.heads, arch.inner,
            ACTIVATIONS.index(arch.activation), int(arch.qk_norm), arch.epsilon,
            arch.head_width**-0.5 if arch.scale_attention else 1.0,
        )  # fmt: skip
        self.threads = min(len(x), torch.get_num_threads())
        self.kept: Tensor | None = None

    def forward(self, keep: bool) -> Tensor:
        """States after the last block; with `keep`, also what `backward` needs."""
        output = torch.empty_like(self.input)
        shape = ctypes.byref(self.shape)
        floats = library().trunk_record_floats(shape, len(self.input), self.threads, int(keep))
        memory = self.trunk.records.take(floats)
        self._call(library().trunk_forward, self.input, memory, int(keep), output)
        if keep:
            self.kept = memory
        else:
            self.trunk.records.give_back(memory)
        return output

    def backward(self, to_output: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradients of the input and of the weights that are there."""
        gradient = to_output.clone(memory_format=torch.contiguous_format)
        weights = [weight for weight in self.weights if weight is not None]
        sums = torch.zeros(self.threads, sum(weight.numel() for weight in weights))
        targets: list[Tensor | None] = []
        for row in sums:
            places = iter(_pieces(row, weights))
            targets += [None if weight is None else next(places) for weight in self.weights]
        assert self.kept is not None
        self._call(library().trunk_backward, self.kept, gradient, _pointers(targets))
        self.trunk.records.give_back(self.kept)
        self.kept = None
        for other in sums[1:]:
            sums[0] += other
        return gradient, _pieces(sums[0], weights)

    def _call(self, function: Any, *arguments: Any) -> None:
        places = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        turns = None if self.turns is None else self.turns.data_ptr()
        counts = len(self.input), self.threads
        function(ctypes.byref(self.shape), _pointers(self.weights), turns, *counts, *places)


class _Trunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Pass, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.call = call
        return call.forward(keep=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_output: Tensor) -> tuple[Tensor | None, ...]:
        to_input, to_weights = ctx.call.backward(to_output)
        return None, to_input, *to_weights


def _tensors(block: nn.Module) -> list[Tensor | None]:
    """Weight and bias (or None) of a block's layers, in the order of trunk.cpp."""
    own = dict(block.named_parameters())
    return [own.get(f"{layer}.{kind}") for layer in LAYERS for kind in ("weight", "bias")]


def _cosines_and_sines(rotation: Tensor) -> Tensor:
    """(2, time, head width): cosines, and sines with the sign that each of a pair takes."""
    cosines, sines = rotation.real, rotation.imag
    pairs = torch.stack([-sines, sines], -1).flatten(-2)
    return torch.stack([cosines.repeat_interleave(2, -1), pairs]).float().contiguous()


def _pieces(row: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Views of a row of numbers in the shapes of the weights."""
    parts = row.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    places = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return (ctypes.c_void_p * len(places))(*places)
