"""The hand features of kexue.fm 5409: how a token of a passage relates to question and passages.

Four per token, at two levels (words, characters):

0. match: 1 if the question contains it;
1. co-occurrence: how many of the other passages contain it, divided by the number of all passages;
2. Jaccard similarity of the question's tokens and those of a window of the question's length n that
   begins floor(n/2) before it, tokens outside the passage left out;
3. edit distance of that window and the question, divided by n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_FEATURES = 4
Floats = NDArray[np.float32]


def token_features(
    question: NDArray[np.integer], passages: Sequence[NDArray[np.integer]]
) -> list[Floats]:
    """Features of all tokens, one (length, 4) per passage; tokens are any integers."""
    if not passages:
        return []
    bounds = np.cumsum([0, len(question), *map(len, passages)])
    _, tokens = np.unique(np.concatenate([question, *passages]), return_inverse=True)
    tokens = tokens.astype(np.int32)
    features = np.zeros((len(tokens), N_FEATURES), np.float32)
    if len(question):
        from kexue_cli.tasks.dgcnn.feature_kernel import all_features

        all_features(tokens[: bounds[1]], tokens, bounds[1:], features)
    return np.split(features[bounds[1] :], bounds[2:-1] - bounds[1])


def mean_over_words(features: Floats, begins: NDArray[np.integer]) -> Floats:
    """Mean over each word's characters.

    Args:
        features: (length, n), per character.
        begins: (length,), not 0 where a word begins.

    Returns:
        (number of words, n)
    """
    if not len(features):
        return features
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(features)))
    sums = np.add.reduceat(features, starts, axis=0)
    return (sums / lengths[:, None]).astype(np.float32)
