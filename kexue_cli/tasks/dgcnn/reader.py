"""The best reader of this family without a pre-trained language model.

Gated dilated convolutions as in kexue.fm 5409 and 6906; what is added: matching features, attention
between question and passage (BiDAF, Seo et al. 2017; its second direction as in DCN, Xiong et al.
2017), self-attention of the passage (R-Net, Wang et al. 2017), and one softmax over all spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.tasks.dgcnn import native_attention
from kexue_cli.tasks.dgcnn.batches import Batch
from kexue_cli.tasks.dgcnn.layers import (
    MASKED,
    AttentionPooling,
    GatedBlock,
    MixedEmbedding,
    at_least_float32,
    linear_beside,
    locked_dropout,
    masked,
)
from kexue_cli.tasks.dgcnn.match_features import (
    N_PASSAGE_FEATURES,
    N_QUESTION_FEATURES,
    match_features,
)
from kexue_cli.tasks.dgcnn.span_scores import span_logits
from kexue_cli.tasks.dgcnn.tags import N_TAGS

CARRY = -1.0  # bias of the gates at the beginning


class SpanLogits(NamedTuple):
    """Logits of spans, by first token and length - 1, and of "no answer".

    Attributes:
        spans: (batch, n, longest).
        none: (batch,).
    """

    spans: Tensor
    none: Tensor


class BiAttention(nn.Module):
    """Each character of the passage beside what it attends to in the question, and back."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.of_passage = nn.Linear(n_channels, 1, bias=False)
        self.of_question = nn.Linear(n_channels, 1, bias=False)
        self.of_both = nn.Parameter(torch.full((n_channels,), n_channels**-0.5))

    def forward(
        self, passage: Tensor, question: Tensor, passage_mask: Tensor, question_mask: Tensor
    ) -> Tensor:
        """(batch, n, c), (batch, m, c) -> (batch, n, 4 c): p, q', p q', p p'."""
        similarity = (passage * self.of_both.to(passage.dtype)) @ question.transpose(1, 2)
        similarity = similarity + self.of_passage(passage)
        similarity = at_least_float32(similarity + self.of_question(question).transpose(1, 2))
        to_question = similarity.masked_fill(~question_mask[:, None, :], MASKED).softmax(dim=2)
        to_passage = similarity.masked_fill(~passage_mask[:, :, None], MASKED).softmax(dim=1)
        to_question, to_passage = to_question.to(passage.dtype), to_passage.to(passage.dtype)
        asked = to_question @ question  # (batch, n, c)
        seen = to_question @ (to_passage.transpose(1, 2) @ passage)
        return torch.cat([passage, asked, passage * asked, passage * seen], dim=2)


class SelfAttention(nn.Module):
    """Each character beside those of the same passage that it attends to, through a gate.

    Attributes:
        native: whether `native_attention` computes it where it can.
    """

    native = False

    def __init__(self, n_channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.project = nn.Linear(n_channels, 3 * n_channels, bias=False)
        self.merge = nn.Linear(2 * n_channels, 2 * n_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, n, c) -> (batch, n, c)."""
        seen = self._attend(self.project(x), mask)
        both = torch.cat([x, seen], dim=2)
        value, gate = self.merge(both).chunk(2, dim=2)
        return torch.lerp(x.to(value.dtype), value, gate.sigmoid())

    def _attend(self, rows: Tensor, mask: Tensor) -> Tensor:
        """What each head sees, side by side, of queries, keys and values side by side."""
        if self.native and native_attention.takes(rows, self.n_heads):
            return native_attention.self_attention(rows, mask, self.n_heads)
        query, key, value = (
            part.unflatten(2, (self.n_heads, -1)).transpose(1, 2)  # (batch, heads, n, d)
            for part in rows.chunk(3, dim=2)
        )
        seen = F.scaled_dot_product_attention(query, key, value, mask[:, None, None, :])
        return seen.transpose(1, 2).flatten(2)


class Reader(nn.Module):
    """Question and passage -> `SpanLogits`.

    Args:
        n_characters: ids of characters; 0 is padding.
        word_width: of the vector of each character's word; 0: no word vectors.
        rarity: (n_characters,) of each character, in [0, 1].
        n_channels: of every layer.
        encoder_dilations: of the blocks that question and passage share.
        mixing_dilations: of the blocks behind the attention between the two.
        final_dilations: of the blocks behind the self-attention.
        n_heads: of the self-attention; 0 leaves it out.
        bi_attention: False replaces it by the pooled question, as in the versions of 2018 and 2019.
        match: whether there are matching features.
        tags: whether parts of speech have embeddings.
        max_answer_length: in characters.
        dropout: of embeddings and between the parts.
        gate_dropout: of the gates' logits.
        token_dropout: share of positions whose embedding is zero while training.
        pair_width: of the vectors whose product joins a start with an end.
        generator: of the initial weights.
    """

    rarity: Tensor

    def __init__(
        self,
        n_characters: int,
        word_width: int,
        rarity: Tensor,
        n_channels: int = 128,
        encoder_dilations: Sequence[int] = (1, 2),
        mixing_dilations: Sequence[int] = (1, 2, 4, 8),
        final_dilations: Sequence[int] = (1,),
        n_heads: int = 2,
        bi_attention: bool = True,
        match: bool = True,
        tags: bool = True,
        max_answer_length: int = 64,
        dropout: float = 0.2,
        gate_dropout: float = 0.1,
        token_dropout: float = 0.05,
        pair_width: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        c = n_channels
        self.dropout, self.token_dropout = dropout, token_dropout
        self.max_answer_length = max_answer_length
        self.register_buffer("rarity", rarity)
        self.embedding = MixedEmbedding(n_characters, c, word_width)
        self.tags = nn.Embedding(N_TAGS, c) if tags else None
        self.passage_match = nn.Linear(N_PASSAGE_FEATURES, c) if match else None
        self.question_match = nn.Linear(N_QUESTION_FEATURES, c) if match else None

        def blocks(dilations: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(GatedBlock(c, d, gate_dropout, locked=True) for d in dilations)

        self.encoder = blocks(encoder_dilations)
        self.question_pool = AttentionPooling(c)
        self.attention = BiAttention(c) if bi_attention else None
        n_features = N_PASSAGE_FEATURES if match else 0
        self.merge = nn.Sequential(
            nn.Linear((5 if bi_attention else 2) * c + n_features, c), nn.LayerNorm(c)
        )
        self.mixing = blocks(mixing_dilations)
        self.self_attention = SelfAttention(c, n_heads) if n_heads else None
        self.norm = nn.LayerNorm(c)
        self.final = blocks(final_dilations)
        self.passage_pool = AttentionPooling(c)
        self.none = nn.Linear(2 * c, 1)
        self.start, self.end = nn.Linear(c, 1), nn.Linear(c, 1)
        self.pair_start, self.pair_end = nn.Linear(c, pair_width), nn.Linear(c, pair_width)
        initialise_(self, generator)

    def forward(
        self, batch: Batch, question_vectors: Tensor, passage_vectors: Tensor
    ) -> SpanLogits:
        """A batch, and its word vectors (batch, length, word_width)."""
        question, passage = batch.question, batch.passage
        q_mask, p_mask = question > 0, passage > 0
        q = self._embed(question, question_vectors)
        p = self._embed(passage, passage_vectors)
        if self.tags is not None:
            q = q + self.tags(batch.question_tags).to(q.dtype)
            p = p + self.tags(batch.passage_tags).to(p.dtype)
        p_match = None
        if self.passage_match is not None and self.question_match is not None:
            p_match, q_match = match_features(
                question, passage, batch.question_words, batch.passage_words, self.rarity
            )
            p, q = p + self.passage_match(p_match), q + self.question_match(q_match)
        q, p = self._through(self.encoder, q, q_mask), self._through(self.encoder, p, p_mask)
        asked = self.question_pool(q, q_mask)
        mixed = p if self.attention is None else self.attention(p, q, p_mask, q_mask)
        x = self._through(self.mixing, self._merge(mixed, asked, p_match), p_mask)
        if self.self_attention is not None:
            x = self.self_attention(x, p_mask)
        x = self._through(self.final, self.norm(x), p_mask)
        return self._score(x, asked, p_mask)

    def _embed(self, characters: Tensor, vectors: Tensor) -> Tensor:
        """Embeddings, some positions of them zero while training; what is added to them stays."""
        x: Tensor = self.embedding(characters, vectors)
        if self.training and self.token_dropout:
            x = x * (torch.rand(x.shape[:2], device=x.device) >= self.token_dropout)[..., None]
        return x

    def _through(self, blocks: nn.ModuleList, x: Tensor, mask: Tensor) -> Tensor:
        x = masked(locked_dropout(x, self.dropout, self.training), mask)
        for block in blocks:
            x = block(x, mask)
        return x

    def _merge(self, mixed: Tensor, asked: Tensor, features: Tensor | None) -> Tensor:
        """merge([mixed, asked, features]) without putting them side by side."""
        linear, norm = self.merge
        assert isinstance(linear, nn.Linear)
        x = linear_beside(linear, mixed, asked)
        if features is not None:
            x = x + F.linear(features, linear.weight[:, -features.shape[2] :])
        result: Tensor = norm(x)
        return result

    def _score(self, x: Tensor, asked: Tensor, mask: Tensor) -> SpanLogits:
        x = locked_dropout(x, self.dropout, self.training)
        whole = torch.cat([self.passage_pool(x, mask), asked], dim=1)
        pair_start = self.pair_start(x) * self.pair_start.out_features**-0.5
        pair = pair_start @ self.pair_end(x).transpose(1, 2)  # (batch, n, n)
        spans = span_logits(
            at_least_float32(self.start(x).squeeze(2)),
            at_least_float32(self.end(x).squeeze(2)),
            pair,
            mask,
            self.max_answer_length,
        )
        return SpanLogits(spans, at_least_float32(self.none(whole).squeeze(1)))


def initialise_(module: nn.Module, generator: torch.Generator | None) -> None:
    """Glorot uniform weights, zero biases; gates begin at carrying most of their input through."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.1, generator=generator)
        if isinstance(part, nn.Conv1d) and part.bias is not None:
            part.bias.data[part.out_channels // 2 :] = CARRY
