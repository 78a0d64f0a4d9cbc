"""Interpolated Witten-Bell n-grams: what counting alone achieves on the same text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def ngram_losses(train: Ids, valid: Ids, vocab_size: int, orders: int = 6) -> list[float]:
    """Mean nats per token of `valid`, by n-grams of order 1 to `orders` counted in `train`.

    P_n(w | h) = (c(h w) + T(h) P_{n-1}(w | h')) / (c(h) + T(h)), where T(h) is the number of
    different tokens seen after h, h' is h without its first token, and P_0 is uniform
    (Witten and Bell 1991). `valid` is read as the continuation of `train`.
    """
    tokens = np.concatenate([train, valid]).astype(np.int64)
    n_train = len(train)
    probability = np.full(len(valid), 1.0 / vocab_size)
    grams = np.zeros(len(tokens), np.int64)  # number of the (n-1)-gram that ends at each position
    losses = []
    for order in range(1, orders + 1):
        contexts = np.zeros_like(grams)
        contexts[1:] = grams[:-1] if order > 1 else 0
        grams = _numbered(contexts * vocab_size + tokens)
        counted = slice(order - 1, n_train)
        probability = _interpolated(contexts, grams, counted, n_train, probability)
        losses.append(float(-np.log(probability).mean()))
    return losses


def _interpolated(
    contexts: Ids, grams: Ids, counted: slice, n_train: int, lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities of one order at the validation positions, from those of the order below."""
    gram_counts = np.bincount(grams[counted], minlength=grams.max() + 1)
    context_counts = np.bincount(contexts[counted], minlength=contexts.max() + 1)
    first_seen = np.unique(grams[counted], return_index=True)[1]
    followers = np.bincount(contexts[counted][first_seen], minlength=contexts.max() + 1)
    context, gram = contexts[n_train:], grams[n_train:]
    seen, different = context_counts[context], followers[context]
    share = (gram_counts[gram] + different * lower) / np.maximum(seen + different, 1)
    return np.where(seen > 0, share, lower)


def _numbered(keys: Ids) -> Ids:
    """Equal keys to equal small numbers."""
    numbers: Ids = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return numbers
