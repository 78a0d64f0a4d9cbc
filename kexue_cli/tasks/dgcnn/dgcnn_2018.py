"""The closed TensorFlow version of 2018 as kexue.fm/archives/5409 describes it.

Tokens are words. A passage's word vector stands beside the question's vector, a position vector and
eight hand features; the outputs are sigmoids of start and end under one of the whole passage.
Number and dilation of the blocks are only in the post's figure, so they are options here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kexue_cli.tasks.dgcnn.batches import Batch
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Logits
from kexue_cli.tasks.dgcnn.encoding import N_FEATURES
from kexue_cli.tasks.dgcnn.layers import (
    AttentionPooling,
    GatedBlock,
    append_vector,
    at_least_float32,
    keras_initialise_,
    masked,
    sinusoidal_positions,
)


class Head(nn.Module):
    """alpha . tanh(W x + b) + beta of every position."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, n_hidden)
        self.output = nn.Linear(n_hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (...)."""
        scores: Tensor = self.output(torch.tanh(self.hidden(x))).squeeze(-1)
        return at_least_float32(scores)


class Dgcnn2018(nn.Module):
    """Question and passage of words -> `Logits`.

    Args:
        n_characters: not used: tokens are words.
        word_width: of a word's vector.
        n_channels: of all convolutions and of the position vectors.
        gate_noise: the gates' logits are multiplied by 1 + e, e uniform within this to either side.
        question_dilations: of the question's gated blocks.
        passage_dilations: of the passage's.
        features: whether the hand features are read.
        positions: whether position vectors are.
        generator: of the initial weights.
    """

    level: ClassVar[str] = "words"

    def __init__(
        self,
        n_characters: int,
        word_width: int,
        n_channels: int = 128,
        gate_noise: float = 0.1,
        question_dilations: Sequence[int] = (1, 2, 1),
        passage_dilations: Sequence[int] = (1, 2, 4, 8, 16, 1),
        features: bool = True,
        positions: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        del n_characters
        self.n_channels, self.features, self.positions = n_channels, features, positions
        self.question_in = nn.Linear(word_width, n_channels, bias=False)
        self.question_blocks = nn.ModuleList(
            GatedBlock(n_channels, dilation, gate_noise=gate_noise)
            for dilation in question_dilations
        )
        self.question_pool = AttentionPooling(n_channels)
        width = word_width + n_channels
        width += n_channels if positions else 0
        width += N_FEATURES if features else 0
        self.passage_in = nn.Linear(width, n_channels)
        self.passage_blocks = nn.ModuleList(
            GatedBlock(n_channels, dilation, gate_noise=gate_noise)
            for dilation in passage_dilations
        )
        self.passage_pool = AttentionPooling(n_channels)
        self.whole = Head(n_channels, n_channels)
        self.start, self.end = Head(n_channels, n_channels), Head(n_channels, n_channels)
        keras_initialise_(self, generator)

    def forward(self, batch: Batch, question_vectors: Tensor, passage_vectors: Tensor) -> Logits:
        """A batch, and its word vectors (batch, length, word_width)."""
        q_mask, mask = batch.question > 0, batch.passage > 0
        q = masked(self.question_in(question_vectors), q_mask)
        for block in self.question_blocks:
            q = block(q, q_mask)
        asked = self.question_pool(q, q_mask)
        x = append_vector(passage_vectors, asked)
        if self.positions:
            at = sinusoidal_positions(x.shape[1], self.n_channels, x.device).to(x.dtype)
            x = torch.cat([x, at.expand(len(x), -1, -1)], dim=2)
        if self.features:
            x = torch.cat([x, batch.features.to(x.dtype)], dim=2)
        x = masked(self.passage_in(x), mask)
        for block in self.passage_blocks:
            x = block(x, mask)
        return Logits(self.start(x), self.end(x), self.whole(self.passage_pool(x, mask)))
