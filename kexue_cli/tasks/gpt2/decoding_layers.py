"""Linear layers and embeddings for generation on a CPU, in the layout that a product is fastest in.

One row (one text): the matrix is read once per token and nothing else takes time, so the numba
kernels of `matvec` read it in float32, bfloat16 or int8. Several rows: oneDNN with weights packed
in blocks for its kernels. Activations stay in float32 outside the products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.threads import shares, together

WEIGHT_FORMATS = ("float32", "bfloat16", "int8")
INT8_LARGEST = 127
Product = Callable[[Any, Any], None]
LEAST_WEIGHTS = (
    1 << 19
)  # of a thread's share of a matrix; handing over less costs more than it saves
FEW_ROWS = 32  # up to here int8 is multiplied as it is, above it is widened first


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 weights (out, in) and one float32 scale per row, (out,); rounding to the nearest."""
    largest = weight.float().abs().amax(1)
    scale = torch.where(largest > 0, largest / INT8_LARGEST, torch.ones_like(largest))
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


class StreamedLinear(nn.Module):
    """y = W x + b, with W read row by row as it is stored."""

    def __init__(self, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.scale, self.bias = weight, scale, bias
        self.products = self._products()

    def _products(self) -> list[Product]:
        """Functions of (input, output), each of some rows of the matrix; none without numba."""
        rows, columns = self.weight.shape
        if find_spec("numba") is None or self.weight.device.type != "cpu":
            return []
        from kexue_cli.tasks.gpt2 import matvec

        if self.scale is not None and columns > matvec.LONGEST_INT8_ROW:
            return []
        parts = min(torch.get_num_threads(), self.weight.numel() // LEAST_WEIGHTS)
        return [self._product(matvec, slice(*share)) for share in shares(rows, parts)]

    def _product(self, matvec: Any, here: slice) -> Product:
        zeros = torch.zeros(self.weight.shape[0])
        bias = (zeros if self.bias is None else self.bias)[here].numpy()
        weight = self.weight[here]
        if self.scale is not None:
            kernel = partial(matvec.int8_product, weight.numpy(), self.scale[here].numpy(), bias)
        elif weight.dtype == torch.bfloat16:
            kernel = partial(matvec.bfloat16_product, weight.view(torch.uint16).numpy(), bias)
        else:
            kernel = partial(matvec.float32_product, weight.numpy(), bias)
        return lambda x, output: kernel(x, output[here])

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out), float32."""
        if self.products and x.numel() == x.shape[-1]:
            output = torch.empty(*x.shape[:-1], self.weight.shape[0])
            row, result = x.reshape(-1).numpy(), output.view(-1).numpy()
            together([partial(product, row, result) for product in self.products])
            return output
        if self.scale is not None:
            y = self._int8_rows(x) * self.scale
            return y if self.bias is None else y + self.bias
        if self.weight.dtype != torch.float32:
            y = F.linear(x.to(self.weight.dtype), self.weight).float()
            return y if self.bias is None else y + self.bias
        return F.linear(x, self.weight, self.bias)

    def _int8_rows(self, x: Tensor) -> Tensor:
        """Several rows times the int8 matrix, its scale still missing."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > FEW_ROWS or x.device.type != "cpu":
            return F.linear(x, self.weight.to(x.dtype))
        ones = torch.ones(self.weight.shape[0], dtype=torch.bfloat16)
        product = torch._weight_int8pack_mm(rows.bfloat16(), self.weight, ones)
        return product.view(*x.shape[:-1], -1).float()


class PackedLinear(nn.Module):
    """y = W x + b by oneDNN, W in the blocked layout its kernels want for about `rows` rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        super().__init__()
        self.dtype = weight.dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self.bias = None if bias is None else bias.to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out), float32."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.packed, self.bias, "none", [], ""
        )
        return y.float()


class Lookup(nn.Module):
    """Rows of a table of any weight format, as float32."""

    def __init__(self, weight: Tensor, scale: Tensor | None) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, indices: Tensor) -> Tensor:
        """(…) to (…, width)."""
        rows = self.weight[indices].float()
        return rows if self.scale is None else rows * self.scale[indices][..., None]


def for_decoding(model: Gpt, rows: int, weights: str = "float32") -> Gpt:
    """Exchange the layers of a model, in place, for those that generate `rows` texts fastest.

    `weights` is the format of the matrices; biases and norms stay in float32. Layer after layer is
    exchanged, so no second copy of the model is in memory at any time.
    """
    table, scale = _stored(model.tokens.weight.detach(), weights)
    head = _layer(model.head, rows, weights, (table, scale) if model.arch.tied else None)
    model.register_module("head", head)
    model.register_module("tokens", Lookup(table, scale))
    if model.arch.positions == "learned":
        positions = _stored(model.positions.weight.detach(), weights)
        model.register_module("positions", Lookup(*positions))
    for block in model.blocks:
        for parent, name in (
            (block.attention, "qkv"),
            (block.attention, "project"),
            (block.mlp, "expand"),
            (block.mlp, "project"),
        ):
            setattr(parent, name, _layer(getattr(parent, name), rows, weights, None))
    return model.eval()


def _layer(
    linear: nn.Linear, rows: int, weights: str, stored: tuple[Tensor, Tensor | None] | None
) -> nn.Module:
    bias = None if linear.bias is None else linear.bias.detach().float()
    weight, scale = stored or _stored(linear.weight.detach(), weights)
    streams = rows == 1 and find_spec("numba") is not None
    packs = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if scale is None and packs and not streams:
        return PackedLinear(weight, bias, rows)
    return StreamedLinear(weight, scale, bias)


def _stored(weight: Tensor, weights: str) -> tuple[Tensor, Tensor | None]:
    if weights == "int8":
        return quantised(weight)
    return weight.to(getattr(torch, weights)).contiguous(), None
