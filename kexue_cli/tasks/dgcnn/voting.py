"""Answers of several passages put together (kexue.fm/archives/5409)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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


def vote(passages: Iterable[Mapping[str, float]]) -> list[Voted]:
    """All candidates, best first; of equal scores the one met first.

    Args:
        passages: of each, its candidates with the best score in that passage.
    """
    supports: dict[str, list[tuple[int, float]]] = {}
    for number, candidates in enumerate(passages):
        for answer, score in candidates.items():
            supports.setdefault(answer, []).append((number, float(score)))
    voted = [
        Voted(answer, joint_score([s for _, s in support]), _best_first(support))
        for answer, support in supports.items()
    ]
    return sorted(voted, key=lambda candidate: -candidate.score)


def joint_score(scores: list[float]) -> float:
    """Sum s^2 / (1 + sum s): many weak voices do not outvote a strong one."""
    return sum(s * s for s in scores) / (1.0 + sum(scores))


def _best_first(support: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(support, key=lambda pair: -pair[1]))
