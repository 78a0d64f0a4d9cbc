"""The open Keras version of the DGCNN reader (kexue.fm/archives/6906), layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kexue_cli.tasks.dgcnn.batches import Batch
from kexue_cli.tasks.dgcnn.layers import (
    AttentionPooling,
    GatedBlock,
    MixedEmbedding,
    at_least_float32,
    keras_initialise_,
    linear_beside,
    masked,
)


class Logits(NamedTuple):
    """What the DGCNN readers put out.

    A position's score is sigmoid(whole) * sigmoid(start) (or end); padded positions hold ordinary
    values.

    Attributes:
        start: (batch, length).
        end: (batch, length).
        whole: (batch,), whether the passage answers the question at all.
    """

    start: Tensor
    end: Tensor
    whole: Tensor

    def scores(self) -> tuple[Tensor, Tensor]:
        """Scores of start and end, each (batch, length)."""
        whole = self.whole.sigmoid()[:, None]
        return whole * self.start.sigmoid(), whole * self.end.sigmoid()


class Dgcnn2019(nn.Module):
    """Question and passage of characters -> `Logits`.

    With 128 channels it has 1,002,883 parameters beside the embeddings.

    Args:
        n_characters: ids of characters; 0 is padding.
        word_width: of the vector of each character's word; 0: no word vectors.
        n_channels: of every layer.
        dropout: of the embeddings.
        gate_dropout: of the gates' logits.
        question_dilations: of the question's gated blocks.
        passage_dilations: of the passage's.
        generator: of the initial weights.
    """

    def __init__(
        self,
        n_characters: int,
        word_width: int,
        n_channels: int = 128,
        dropout: float = 0.1,
        gate_dropout: float = 0.1,
        question_dilations: Sequence[int] = (1, 2, 1),
        passage_dilations: Sequence[int] = (1, 2, 4, 8, 16, 1),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embedding = MixedEmbedding(n_characters, n_channels, word_width, dropout)
        self.question_blocks = nn.ModuleList(
            GatedBlock(n_channels, dilation, gate_dropout) for dilation in question_dilations
        )
        self.question_pool = AttentionPooling(n_channels)
        self.merge = nn.Linear(2 * n_channels, n_channels, bias=False)
        self.passage_blocks = nn.ModuleList(
            GatedBlock(n_channels, dilation, gate_dropout) for dilation in passage_dilations
        )
        self.passage_pool = AttentionPooling(2 * n_channels)
        self.whole = nn.Linear(2 * n_channels, 1)
        self.start = nn.Linear(2 * n_channels, 1)
        self.end = nn.Linear(2 * n_channels, 1)
        keras_initialise_(self, generator)

    def forward(self, batch: Batch, question_vectors: Tensor, passage_vectors: Tensor) -> Logits:
        """A batch, and its word vectors (batch, length, word_width)."""
        return self.read(batch.question, question_vectors, batch.passage, passage_vectors)

    def read(
        self,
        question: Tensor,
        question_words: Tensor,
        passage: Tensor,
        passage_words: Tensor,
    ) -> Logits:
        """Ids (batch, length) and word vectors (batch, length, word_width), for each of the two."""
        asked = self.read_question(question, question_words)
        mask = passage > 0
        x = masked(linear_beside(self.merge, self.embedding(passage, passage_words), asked), mask)
        for block in self.passage_blocks:
            x = block(x, mask)
        whole = self.whole(self.passage_pool(x, mask, asked))
        return Logits(
            at_least_float32(linear_beside(self.start, x, asked).squeeze(2)),
            at_least_float32(linear_beside(self.end, x, asked).squeeze(2)),
            at_least_float32(whole.squeeze(1)),
        )

    def read_question(self, question: Tensor, words: Tensor) -> Tensor:
        """The question as one vector, (batch, n_channels)."""
        x = masked(self.embedding(question, words), question > 0)
        for block in self.question_blocks:
            x = block(x, question > 0)
        pooled: Tensor = self.question_pool(x, question > 0)
        return pooled
