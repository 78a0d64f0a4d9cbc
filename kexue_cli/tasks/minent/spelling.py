"""How likely a new word is spelled so: a character bigram with the word lengths of the lexicon.

The base distribution of the Bayesian bigram model. A plain bigram with an end mark makes too many
short words; as in Mochihashi et al. 2009 ("Bayesian unsupervised word segmentation with nested
Pitman-Yor language modeling", ACL) its length distribution is divided out and one learned from
the words found is put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHARACTER_PRIOR = 0.1  # added to the count of every character
LENGTH_PRIOR = 0.5  # weight, in words, of the bigram's own length distribution


@dataclass(frozen=True)
class Spelling:
    """Character bigram over symbols 0 … size - 1; symbol `size` is the word's begin and end.

    keys       (pairs,) int64, sorted: first * (size + 1) + second, of the pairs seen
    counts     (pairs,) float64 in words of the lexicon, every word taken once
    character  (size + 1,) probability of a symbol regardless of the one before
    followed   (size + 1,) sum of counts by first symbol
    variety    (size + 1,) number of different second symbols
    length     (max_length + 1,) factor that turns the bigram's word lengths into the lexicon's
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.float64]
    character: NDArray[np.float64]
    followed: NDArray[np.float64]
    variety: NDArray[np.float64]
    length: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of symbols without the mark."""
        return len(self.character) - 1

    def pair(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """P(second | first), Witten-Bell smoothed, elementwise."""
        keys = first * (self.size + 1) + second
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        seen = np.where(self.keys[place] == keys, self.counts[place], 0.0)
        variety = self.variety[first] + 1e-3  # a symbol that was never followed backs off
        return (seen + variety * self.character[second]) / (self.followed[first] + variety)

    def heads(self) -> NDArray[np.float64]:
        """P(symbol | begin), (size,)."""
        return self.pair(np.full(self.size, self.size), np.arange(self.size))

    def tails(self) -> NDArray[np.float64]:
        """P(end | symbol), (size,)."""
        return self.pair(np.arange(self.size), np.full(self.size, self.size))


def learn_spelling(
    symbols: NDArray[np.int32], lengths: NDArray[np.int64], size: int, max_length: int
) -> Spelling:
    """From the words of a lexicon: their symbols one after the other, and their lengths."""
    mark, last = size, np.cumsum(lengths) - 1
    first = np.insert(symbols.astype(np.int64), last + 1, mark)
    first = np.concatenate(([mark], first[:-1]))
    second = np.insert(symbols.astype(np.int64), last + 1, mark)
    keys, counts = np.unique(first * (size + 1) + second, return_counts=True)
    character = np.bincount(second, minlength=size + 1) + CHARACTER_PRIOR
    followed = np.bincount(first, minlength=size + 1).astype(np.float64)
    variety = np.bincount(keys // (size + 1), minlength=size + 1).astype(np.float64)
    plain = Spelling(
        keys, counts.astype(np.float64), character / character.sum(), followed, variety,
        np.ones(max_length + 1),
    )  # fmt: skip
    own = own_lengths(plain, max_length)
    seen = np.bincount(np.minimum(lengths, max_length), minlength=max_length + 1)
    wanted = (seen + LENGTH_PRIOR * own / own.sum()) / (len(lengths) + LENGTH_PRIOR)
    plain.length[1:] = wanted[1:] / own[1:]
    return plain


def own_lengths(spelling: Spelling, max_length: int) -> NDArray[np.float64]:
    """Probability of each word length under the bigram with end mark, (max_length + 1,)."""
    size = spelling.size
    first, second = spelling.keys // (size + 1), spelling.keys % (size + 1)
    variety = spelling.variety + 1e-3
    shares = spelling.counts / (spelling.followed + variety)[first]
    back_off = variety / (spelling.followed + variety)
    tails = spelling.tails()
    here = np.append(spelling.heads(), 0.0)
    found = np.zeros(max_length + 1)
    for length in range(1, max_length + 1):
        found[length] = (here[:size] * tails).sum()
        seen = np.bincount(second, here[first] * shares, size + 1)
        here = seen + (here * back_off).sum() * spelling.character
        here[size] = 0.0  # those words have ended
    return found
