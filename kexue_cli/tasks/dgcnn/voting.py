"""Answers of several passages put together.

The post's vote (kexue.fm/archives/5409) is sum s^2 / (1 + sum s) over the passages: many weak
voices do not outvote a strong one. Where a search engine gave the passages, so that most of them
speak of the same, a sum of low powers of s heeds more how many there are. The sum of s itself is
a probability where passages share a softmax (task.together).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Voted:
    """One candidate answer.

    Attributes:
        answer: the text.
        score: what the vote gave it.
        support: (passage's number, its score s), best first.
    """

    answer: str
    score: float
    support: tuple[tuple[int, float], ...]


def vote(
    passages: Iterable[Mapping[str, float]],
    most: int | None = None,
    allowed: Callable[[str], bool] = lambda answer: True,
    power: float | None = None,
) -> list[Voted]:
    """The `most` best candidates, or all, best first; of equal scores the one met first.

    There may be tens of thousands, so nothing but a score is made of each.

    Args:
        passages: of each, its candidates with the best score in that passage.
        allowed: whether a candidate may be an answer at all.
        power: of the scores that are added; None: the post's vote.
    """
    passages = list(passages)
    scores = joint_scores(passages) if power is None else power_sums(passages, power)
    best = islice(filter(allowed, sorted(scores, key=scores.__getitem__, reverse=True)), most)
    return [Voted(answer, scores[answer], support(answer, passages)) for answer in best]


def joint_scores(passages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sum s^2 / (1 + sum s) of every candidate."""
    sums: dict[str, float] = {}
    squares: dict[str, float] = {}
    for candidates in passages:
        for answer, score in candidates.items():
            sums[answer] = sums.get(answer, 0.0) + score
            squares[answer] = squares.get(answer, 0.0) + score * score
    return {answer: square / (1.0 + sums[answer]) for answer, square in squares.items()}


def power_sums(passages: Sequence[Mapping[str, float]], power: float) -> dict[str, float]:
    """Sum of a power of every candidate's scores."""
    sums: dict[str, float] = {}
    for candidates in passages:
        for answer, score in candidates.items():
            sums[answer] = sums.get(answer, 0.0) + score**power
    return sums


def with_mentions(
    passages: Sequence[Mapping[str, float]], texts: Sequence[str], weight: float
) -> list[dict[str, float]]:
    """A passage that holds what only others propose seconds it: `weight` times their mean."""
    found: dict[str, list[float]] = {}
    for candidates in passages:
        for answer, score in candidates.items():
            found.setdefault(answer, []).append(score)
    means = {answer: weight * sum(scores) / len(scores) for answer, scores in found.items()}
    return [
        {a: mean for a, mean in means.items() if a in text} | dict(candidates)
        for candidates, text in zip(passages, texts, strict=True)
    ]


def support(answer: str, passages: Sequence[Mapping[str, float]]) -> tuple[tuple[int, float], ...]:
    """The passages that propose an answer, each with its score, best first."""
    found = [(number, float(c[answer])) for number, c in enumerate(passages) if answer in c]
    return tuple(sorted(found, key=lambda pair: -pair[1]))
