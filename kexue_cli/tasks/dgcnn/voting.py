"""Answers of several passages put together (kexue.fm/archives/5409)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Voted:
    """One candidate answer.

    Attributes:
        answer: the text.
        score: sum s^2 / (1 + sum s) over the passages that propose it.
        support: (passage's number, its score s), best first.
    """

    answer: str
    score: float
    support: tuple[tuple[int, float], ...]


def vote(
    passages: Iterable[Mapping[str, float]],
    most: int | None = None,
    allowed: Callable[[str], bool] = lambda answer: True,
) -> list[Voted]:
    """The `most` best candidates, or all, best first; of equal scores the one met first.

    There may be tens of thousands, so nothing but a score is made of each.

    Args:
        passages: of each, its candidates with the best score in that passage.
        allowed: whether a candidate may be an answer at all.
    """
    passages = list(passages)
    scores = joint_scores(passages)
    best = islice(filter(allowed, sorted(scores, key=scores.__getitem__, reverse=True)), most)
    return [Voted(answer, scores[answer], support(answer, passages)) for answer in best]


def joint_scores(passages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sum s^2 / (1 + sum s) of every candidate: many weak voices do not outvote a strong one."""
    sums: dict[str, float] = {}
    squares: dict[str, float] = {}
    for candidates in passages:
        for answer, score in candidates.items():
            sums[answer] = sums.get(answer, 0.0) + score
            squares[answer] = squares.get(answer, 0.0) + score * score
    return {answer: square / (1.0 + sums[answer]) for answer, square in squares.items()}


def support(answer: str, passages: Sequence[Mapping[str, float]]) -> tuple[tuple[int, float], ...]:
    """The passages that propose an answer, each with its score, best first."""
    found = [(number, float(c[answer])) for number, c in enumerate(passages) if answer in c]
    return tuple(sorted(found, key=lambda pair: -pair[1]))
