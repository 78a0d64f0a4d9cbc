"""Networks with a leading "cell" dimension: independent models trained as one batched model.

A plain run has one cell. Cells share nothing but the minibatch: every weight is (cells, ...), so
that the gradient of the sum of the cells' losses is each cell's own gradient, and Adam on it is
each cell's own Adam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from kexue_cli.tasks.vae import dense


class CellLinear(nn.Module):
    """`cells` independent affine maps: x (cells or 1, rows, inputs) -> (cells, rows, outputs).

    Weights are (cells, inputs, outputs), Keras' order. Glorot-uniform, zero bias, as Keras and
    Burda et al.; cell i draws from `generators[i]` alone and so starts like the same cell trained
    by itself.
    """

    def __init__(self, generators: Sequence[torch.Generator], inputs: int, outputs: int) -> None:
        super().__init__()
        bound = math.sqrt(6.0 / (inputs + outputs))
        drawn = [torch.rand(inputs, outputs, generator=generator) for generator in generators]
        self.weight = nn.Parameter((torch.stack(drawn) * 2 - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.weight.shape[0] == 1:
            return torch.addmm(self.bias[0], x[0], self.weight[0]).unsqueeze(0)
        return torch.baddbmm(self.bias, x.expand(self.weight.shape[0], -1, -1), self.weight)


class Tanh(torch.autograd.Function):
    """The tanh as 2 sigmoid(2x) - 1: on a CPU several times faster, error 1e-7 in float32."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """Elementwise."""
        y = torch.sigmoid(x + x).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """Gradient times 1 - y^2."""
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, y)


def activation(name: str, x: Tensor) -> Tensor:
    """`relu`, `tanh` or `linear`, elementwise."""
    match name:
        case "relu":
            return functional.relu(x)
        case "tanh":
            return torch.tanh(x) if x.is_cuda else Tanh.apply(x)
        case "linear":
            return x
    raise ValueError(f"unknown activation {name!r}")


class Mlp(nn.Module):
    """Dense layers, each with its activation: (cells or 1, rows, inputs) -> (cells, rows, n).

    Without hidden layers it hands its input on.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], inputs: int, hidden: Sequence[int], name: str
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(CellLinear(generators, a, b) for a, b in pairwise(sizes))
        self.activation = name
        self.outputs = sizes[-1]
        self.native = False  # see `Vae.use_native`

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        weights = list(self.parameters())
        if self.native and weights and dense.takes([x, *weights]):
            return dense.stack(x, weights, self.activation, self.activation)
        for layer in self.layers:
            x = activation(self.activation, layer(x))
        return x


class DenseDecoder(nn.Module):
    """Dense layers, and a linear one to the outputs: (cells, rows, latents) -> (cells, rows, n)."""

    def __init__(self, body: Mlp, last: CellLinear) -> None:
        super().__init__()
        self.body, self.last = body, last
        self.native = False

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        outputs: Tensor = self.last(self.body(z))
        return outputs

    def takes(self, z: Tensor, x: Tensor) -> bool:
        """Whether `bernoulli_log_likelihood` can be had for these."""
        return self.native and dense.takes([z, x, *self.parameters()])

    def bernoulli_log_likelihood(self, z: Tensor, x: Tensor, k: int) -> Tensor:
        """Log p(x|z) of images x (cells or 1, batch, pixels) at z (cells, batch * k, latents).

        (cells, batch * k); the pixels' logits are never written out.
        """
        weights = list(self.parameters())
        return dense.bernoulli_log_likelihood(z, x, k, weights, self.body.activation)


class ConvEncoder(nn.Module):
    """The posts' convolutional encoder: (1, rows, height*width) -> (1, rows, dense).

    3x3 convolutions of stride 2, ReLU, flatten, dense ReLU. Keras' "same" on even sizes pads 0
    before and 1 after, and its Flatten is channels-last. One cell only.
    """

    def __init__(
        self, generator: torch.Generator, shape: tuple[int, int], filters: Sequence[int], dense: int
    ) -> None:
        super().__init__()
        self.shape = shape
        channels = [1, *filters]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2) for a, b in pairwise(channels)
        )
        for convolution in self.convolutions:
            glorot_convolution_(convolution, generator)
        height, width = (side // 2 ** len(filters) for side in shape)
        self.dense = CellLinear([generator], height * width * filters[-1], dense)
        self.outputs = dense

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        picture = x[0].reshape(-1, 1, *self.shape)  # (rows, 1, height, width)
        for convolution in self.convolutions:
            picture = functional.relu(convolution(functional.pad(picture, (0, 1, 0, 1))))
        flat = picture.permute(0, 2, 3, 1).flatten(1)  # (rows, height * width * channels)
        return functional.relu(self.dense(flat.unsqueeze(0)))


class ConvDecoder(nn.Module):
    """Mirror of ConvEncoder, without a last activation: (1, rows, latents) -> (1, rows, pixels).

    Keras' transposed "same" is the full transposed convolution with the last row and column cut
    off.
    """

    def __init__(
        self,
        generator: torch.Generator,
        latents: int,
        shape: tuple[int, int],
        filters: Sequence[int],
        dense: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.start = (shape[0] // 2 ** len(filters), shape[1] // 2 ** len(filters), filters[-1])
        self.dense = Mlp([generator], latents, [*dense, math.prod(self.start)], "relu")
        channels = [filters[-1], *reversed(filters)]
        self.transposed = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 3, stride=2) for a, b in pairwise(channels)
        )
        self.last = nn.ConvTranspose2d(filters[0], 1, 3, padding=1)
        for convolution in [*self.transposed, self.last]:
            glorot_convolution_(convolution, generator)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        height, width, channels = self.start
        picture = self.dense(z)[0].reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        for convolution in self.transposed:
            picture = functional.relu(convolution(picture)[..., :-1, :-1])
        return self.last(picture).flatten(1).unsqueeze(0)


def glorot_convolution_(layer: nn.Module, generator: torch.Generator) -> None:
    """Glorot-uniform kernel and zero bias, in place; fans count the kernel's area as Keras does."""
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    assert layer.bias is not None
    area = layer.kernel_size[0] * layer.kernel_size[1]
    bound = math.sqrt(6.0 / (area * (layer.in_channels + layer.out_channels)))
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
