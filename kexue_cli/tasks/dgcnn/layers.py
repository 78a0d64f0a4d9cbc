"""Layers of the DGCNN readers. All tensors are (batch, length, channel), masks (batch, length).

Sources: kexue.fm/archives/5409 (gates, gate noise, attention pooling, positions) and the Keras
version of kexue.fm/archives/6906 (dropout of gate logits, masks).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.dgcnn import native_block, native_embedding

MASKED = -1e12


class GatedBlock(nn.Module):
    """y = x (1 - s) + value s, s = sigmoid(gate): a dilated convolution that may carry x through.

    Args:
        n_channels: of input and output.
        dilation: of the convolution.
        gate_dropout: dropout of the gate's logits while training (the version of 2019).
        locked: that dropout drops a channel at all positions together, which is much cheaper.
        gate_noise: the logits are multiplied by 1 + e while training, e uniform within this to
            either side (the version of 2018).
        kernel_size: taps, an odd number.

    Attributes:
        native: whether `native_block` computes it where it can.
    """

    native = False

    def __init__(
        self,
        n_channels: int,
        dilation: int,
        gate_dropout: float = 0.0,
        gate_noise: float = 0.0,
        kernel_size: int = 3,
        locked: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            n_channels, 2 * n_channels, kernel_size, padding="same", dilation=dilation
        )
        self.gate_dropout = gate_dropout
        self.gate_noise = gate_noise
        self.locked = locked

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, length, n_channels) -> the same; masked positions must be zero and stay so."""
        noisy = self.training and self.gate_noise > 0
        if self.native and not noisy and native_block.takes(x, self.conv.weight):
            return self._native(x, mask)
        value, gate = self.conv(x.transpose(1, 2)).transpose(1, 2).chunk(2, dim=2)
        if noisy:
            gate = gate * (1 + torch.empty_like(gate).uniform_(-self.gate_noise, self.gate_noise))
        drop = locked_dropout if self.locked else F.dropout
        gate = drop(gate, self.gate_dropout, self.training)
        return masked(torch.lerp(x.to(value.dtype), value, gate.sigmoid()), mask)

    def _native(self, x: Tensor, mask: Tensor) -> Tensor:
        conv, dropout = self.conv, self.gate_dropout if self.training else 0.0
        assert conv.bias is not None
        dilation = conv.dilation[0]
        return native_block.gated_block(
            x, mask, conv.weight, conv.bias, dilation, dropout, self.locked
        )


class AttentionPooling(nn.Module):
    """sum_i softmax(v . tanh(W x_i)) x_i over the unmasked positions."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_channels, n_channels, bias=False)
        self.score = nn.Linear(n_channels, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor, beside: Tensor | None = None) -> Tensor:
        """(batch, length, n) -> (batch, n_channels), of x with `beside` (batch, m) appended."""
        hidden = self.hidden(x) if beside is None else linear_beside(self.hidden, x, beside)
        scores = at_least_float32(self.score(torch.tanh(hidden)))  # (batch, length, 1)
        weights = scores.masked_fill(~mask[..., None], MASKED).softmax(dim=1)
        pooled = (weights.to(x.dtype).transpose(1, 2) @ x).squeeze(1)
        return pooled if beside is None else torch.cat([pooled, beside.to(pooled.dtype)], dim=1)


class MixedEmbedding(nn.Module):
    """Trainable embedding of the character plus a projection of its word's vector, and dropout.

    Attributes:
        native: whether `native_embedding` computes it where it can.
    """

    native = False

    def __init__(
        self, n_characters: int, n_channels: int, word_width: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.characters = nn.Embedding(n_characters, n_channels)
        self.words = nn.Linear(word_width, n_channels, bias=False) if word_width else None
        self.dropout = dropout

    def forward(self, characters: Tensor, word_vectors: Tensor) -> Tensor:
        """Ids (batch, length), vectors (batch, length, word_width) -> (batch, length, n_channels).

        Id 0 has an embedding like any other: masks are applied by the layers behind.
        """
        words = None if self.words is None else self.words(word_vectors)
        table = self.characters.weight
        if self.native and native_block.takes(word_vectors, table):
            dropout = self.dropout if self.training else 0.0
            return native_embedding.embedding(characters, table, words, dropout)
        embedded: Tensor = self.characters(characters)
        embedded = embedded if words is None else embedded + words
        return F.dropout(embedded, self.dropout, self.training)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Zero where the mask (batch, length) is False."""
    return x * mask[..., None].to(x.dtype)


def locked_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of channels, the same ones at all positions (Gal and Ghahramani 2016)."""
    if not training or p == 0:
        return x
    kept = torch.empty(x.shape[0], 1, x.shape[2], dtype=x.dtype, device=x.device)
    return x * kept.bernoulli_(1 - p).div_(1 - p)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision is good enough for matrices, not for losses and softmaxes."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def linear_beside(layer: nn.Linear, x: Tensor, vector: Tensor) -> Tensor:
    """layer(append_vector(x, vector)), the vector's part computed once for all positions.

    What else the layer takes, behind them, counts as zero.
    """
    n, m = x.shape[2], vector.shape[1]
    part = F.linear(vector, layer.weight[:, n : n + m], layer.bias)
    return F.linear(x, layer.weight[:, :n]) + part[:, None]


def append_vector(x: Tensor, vector: Tensor) -> Tensor:
    """The same (batch, m) beside every position of (batch, length, n): (batch, length, n + m)."""
    return torch.cat([x, vector[:, None].expand(-1, x.shape[1], -1)], dim=2)


def sinusoidal_positions(length: int, n_channels: int, device: torch.device) -> Tensor:
    """Sin and cos of position / 10000^(2 k / n_channels), (length, n_channels).

    The first half of the channels are sines, the second half cosines.
    """
    half = torch.arange(0, n_channels, 2, dtype=torch.float32, device=device)
    frequency = torch.exp(-math.log(10_000.0) * half / n_channels)
    angle = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :n_channels]


def keras_initialise_(module: nn.Module, generator: torch.Generator | None) -> None:
    """Keras' defaults: Glorot uniform kernels, zero biases, embeddings uniform within 0.05."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.uniform_(part.weight, -0.05, 0.05, generator=generator)
