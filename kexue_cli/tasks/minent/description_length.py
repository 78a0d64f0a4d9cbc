"""The post's quantities of a segmentation: entropy per character, two-part length, coverage.

L = H / l is eq. 2.8 of kexue.fm/archives/5476: the mean information per character. It falls as
units grow, whatever they are; with the cost of the lexicon added it has a minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NATS_PER_BIT = math.log(2)


def entropy_nats(counts: NDArray[np.integer]) -> float:
    """Entropy of the distribution counts / sum, in nats per unit; order 0."""
    seen = counts[counts > 0].astype(np.float64)
    total = seen.sum()
    return float(np.log(total) - (seen * np.log(seen)).sum() / total) if total else 0.0


@dataclass(frozen=True)
class DescriptionLength:
    """Lengths in nats of the whole text.

    data_nats      sum over words of -ln(count / total): the text coded word by word
    lexicon_nats   every distinct word spelled once in an order-0 character code, with an end mark
    characters     of the text
    """

    data_nats: float
    lexicon_nats: float
    characters: int
    tokens: int
    types: int

    @property
    def nats_per_character(self) -> float:
        """L = H / l (eq. 2.8), in nats."""
        return self.data_nats / self.characters

    @property
    def two_part_nats_per_character(self) -> float:
        """Text and lexicon together, per character of the text."""
        return (self.data_nats + self.lexicon_nats) / self.characters

    def metrics(self) -> dict[str, float]:
        """Named numbers for the run's metrics, in bits and nats."""
        nats = self.nats_per_character
        both = self.two_part_nats_per_character
        return {
            "entropy_per_character_bits": nats / NATS_PER_BIT,
            "entropy_per_character_nats": nats,
            "two_part_bits_per_character": both / NATS_PER_BIT,
            "two_part_nats_per_character": both,
            "word_entropy_bits": self.data_nats / self.tokens / NATS_PER_BIT,
            "word_length": self.characters / self.tokens,
            "tokens": float(self.tokens),
            "vocabulary": float(self.types),
        }


def of_counts(
    counts: NDArray[np.integer], lengths: NDArray[np.integer], spelled: NDArray[np.integer]
) -> DescriptionLength:
    """From the words used.

    counts (words,) > 0, lengths (words,) in characters, spelled (alphabet,): how often each
    character occurs in the lexicon, every word taken once.
    """
    tokens = int(counts.sum())
    with_ends = np.append(spelled, len(counts))
    return DescriptionLength(
        data_nats=entropy_nats(counts) * tokens,
        lexicon_nats=entropy_nats(with_ends) * int(with_ends.sum()),
        characters=int((counts * lengths).sum()),
        tokens=tokens,
        types=len(counts),
    )


def of_words(counts: dict[str, int]) -> DescriptionLength:
    """From a table of words and how often each is used."""
    letters = np.frombuffer("".join(counts).encode("utf-32-le", "surrogatepass"), "<u4")
    return of_counts(
        np.fromiter(counts.values(), np.int64, len(counts)),
        np.fromiter(map(len, counts), np.int64, len(counts)),
        np.unique(letters, return_counts=True)[1],
    )


def coverage(counts: NDArray[np.integer], lengths: NDArray[np.integer]) -> dict[str, float]:
    """Shares of the text: tokens and characters in words of several characters, and the share of
    tokens that the thousand most frequent words make.
    """
    total, characters = counts.sum(), (counts * lengths).sum()
    long = lengths > 1
    return {
        "coverage_long_tokens": float(counts[long].sum() / total),
        "coverage_long_characters": float((counts * lengths)[long].sum() / characters),
        "coverage_top1000_tokens": float(np.sort(counts)[::-1][:1000].sum() / total),
    }
