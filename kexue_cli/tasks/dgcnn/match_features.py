"""How a passage's characters match a question, from ids alone: exact, in runs, and by coverage.

Lexical overlap is what little training data cannot teach and what tells most where an answer is
(Weissenborn et al. 2017, "Making Neural QA as Simple as Possible but not Simpler").
"""

from __future__ import annotations

import torch
from torch import Tensor

RUNS = (1, 2, 3, 4)  # lengths of common runs that are told apart
WINDOWS = (6, 16, 40)  # characters to either side over which the question's coverage is summed
N_PASSAGE_FEATURES = len(RUNS) + 2 + 2 * len(WINDOWS)
N_QUESTION_FEATURES = len(RUNS) + 1


def match_features(
    question: Tensor,
    passage: Tensor,
    question_words: Tensor,
    passage_words: Tensor,
    rarity: Tensor,
) -> tuple[Tensor, Tensor]:
    """Features of the passage's characters and of the question's, all in [0, 1].

    Of the passage: whether a run of 1, 2, 3, 4 characters around it occurs in the question, whether
    its word does, its rarity, and for windows of three widths the share of the question, weighted
    by rarity, that occurs within the window: as single characters and as pairs.

    Args:
        question: (batch, m) ids of characters, 0 padding.
        passage: (batch, n) the same.
        question_words: (batch, m) ids of words, 0 unknown.
        passage_words: (batch, n) the same.
        rarity: (ids,) of each character, in [0, 1]; 0 for padding.

    Returns:
        (batch, n, N_PASSAGE_FEATURES) and (batch, m, N_QUESTION_FEATURES)
    """
    equal = (passage[:, :, None] == question[:, None, :]) & (question > 0)[:, None, :]
    runs = common_runs(equal, RUNS)  # each (batch, n, m)
    same_word = (passage_words[:, :, None] == question_words[:, None, :]) & (question_words > 0)[
        :, None, :
    ]
    weight = rarity[question]  # (batch, m)
    of_passage = [run.any(dim=2).float() for run in runs]
    of_passage += [same_word.any(dim=2).float(), rarity[passage]]
    for matched in (runs[0], runs[1]):
        of_passage += coverage(matched, weight)
    of_question = [run.any(dim=1).float() for run in runs] + [weight]
    return torch.stack(of_passage, dim=2), torch.stack(of_question, dim=2)


def common_runs(equal: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    """Of each length, which pairs lie in a common run of at least so many characters.

    `equal` is (batch, n, m): whether character i of the one is character j of the other.
    """
    n, m = equal.shape[1:]
    found = []
    for length in lengths:
        if length > min(n, m):
            found.append(torch.zeros_like(equal))
            continue
        shape = (n - length + 1, m - length + 1)
        begins = torch.ones_like(equal[:, : shape[0], : shape[1]])
        for k in range(length):
            begins = begins & equal[:, k : k + shape[0], k : k + shape[1]]
        inside = torch.zeros_like(equal)
        for k in range(length):
            inside[:, k : k + shape[0], k : k + shape[1]] |= begins
        found.append(inside)
    return found


def coverage(matched: Tensor, weight: Tensor) -> list[Tensor]:
    """Share of the question's weight that is matched within each window around a position.

    Args:
        matched: (batch, n, m).
        weight: (batch, m).

    Returns:
        One (batch, n) for each of `WINDOWS`.
    """
    n = matched.shape[1]
    before = torch.nn.functional.pad(matched.int().cumsum(dim=1, dtype=torch.int32), (0, 0, 1, 0))
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    position = torch.arange(n, device=matched.device)
    shares = []
    for window in WINDOWS:
        upper = (position + window + 1).clamp(max=n)
        lower = (position - window).clamp(min=0)
        present = before[:, upper] > before[:, lower]  # (batch, n, m)
        shares.append((present * weight[:, None]).sum(dim=2) / total)
    return shares
