"""A reader with its table of word vectors: from a batch of ids to logits."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kexue_cli.tasks.dgcnn.batches import Batch
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Logits
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.reader import SpanLogits


class Network(nn.Module):
    """Looks words up and calls the reader.

    Args:
        reader: its `forward` takes a batch, and the word vectors of question and passage.
        n_words: ids of words, 0 (unknown) among them.
        width: of a word's vector; 0 for none.
        generator: of the vectors, which are learned with the rest.

    Attributes:
        level: of the tokens that the reader takes.
    """

    def __init__(
        self,
        reader: nn.Module,
        n_words: int,
        width: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.reader = reader
        self.level = Level(getattr(reader, "level", Level.characters))
        self.words = nn.Embedding(n_words, width, padding_idx=0) if width else None
        if self.words is not None:
            with torch.no_grad():
                self.words.weight.normal_(std=0.1, generator=generator)[0] = 0

    def take_vectors(self, vectors: NDArray[np.float32]) -> None:
        """Take (n_words - 1, width) vectors of the words."""
        assert self.words is not None
        with torch.no_grad():
            self.words.weight[1:] = torch.from_numpy(vectors)

    def forward(self, batch: Batch) -> Logits | SpanLogits:
        """Logits of every token of the passages."""
        found: Logits | SpanLogits = self.reader(
            batch, self._vectors(batch.question_words), self._vectors(batch.passage_words)
        )
        return found

    def _vectors(self, words: Tensor) -> Tensor:
        if self.words is None:
            return torch.zeros(*words.shape, 0, device=words.device)
        vectors: Tensor = self.words(words)
        return vectors


def unit_scale(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of a mean length of 1, so that their origin does not matter."""
    length = float(np.linalg.norm(vectors, axis=1).mean())
    return (vectors / max(length, 1e-12)).astype(np.float32)


def rarity_of(n_characters: int) -> Tensor:
    """How rare each id's character is, in [0, 1], from its rank by frequency (Zipf's law).

    Ids are in the order of frequency from 2 on; 1, unknown, is the rarest, 0 is padding.
    """
    rank = torch.arange(n_characters, dtype=torch.float32)
    rarity = rank.clamp(min=1).log() / math.log(max(n_characters, 2))
    rarity[0], rarity[1] = 0.0, 1.0
    return rarity


def count_parameters(network: nn.Module) -> dict[str, int]:
    """Parameters of the embeddings, and of all the rest."""
    embeddings = sum(
        part.weight.numel() for part in network.modules() if isinstance(part, nn.Embedding)
    )
    everything = sum(parameter.numel() for parameter in network.parameters())
    return {"embeddings": embeddings, "layers": everything - embeddings}
