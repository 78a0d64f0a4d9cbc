"""Scores of answers against references by the rules of a contest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kexue_cli.tasks.dgcnn import score_cmrc, score_squad
from kexue_cli.tasks.dgcnn.config import Scorer
from kexue_cli.tasks.dgcnn.score_sogouqa import Accepted, Normaliser, best_f1, encode, is_right

Pair = tuple[bool, float]  # exact match, F1
ONE_LINE = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def one(answer: str, references: Sequence[str], scorer: Scorer) -> Pair:
    """Exact match and F1 with the references; without any, only "" is right."""
    if not references:
        return not answer, float(not answer)
    return RULES[scorer](answer, references)


def total(pairs: Sequence[Pair], scorer: Scorer) -> dict[str, float]:
    """SogouQA: accuracy, f1 and mean as shares; the others: em, f1 and mean in per cent."""
    n = max(1, len(pairs))
    exact, f1 = sum(pair[0] for pair in pairs) / n, sum(pair[1] for pair in pairs) / n
    if scorer is Scorer.sogouqa:
        return {"accuracy": exact, "f1": f1, "mean": (exact + f1) / 2}
    return {"em": 100 * exact, "f1": 100 * f1, "mean": 50 * (exact + f1)}


def _sogouqa(answer: str, references: Sequence[str]) -> Pair:
    given = encode(answer.translate(ONE_LINE)).strip()  # of bytes: only ASCII blanks
    accepted = [encode(reference.translate(ONE_LINE)) for reference in references]
    known = Accepted(accepted[0], frozenset(accepted))
    return is_right(given, known, SOGOUQA), best_f1(given, known, SOGOUQA)


def _cmrc(answer: str, references: Sequence[str]) -> Pair:
    exact = any(score_cmrc.same(answer, reference) for reference in references)
    return exact, max(score_cmrc.f1(answer, reference) for reference in references)


def _squad(answer: str, references: Sequence[str]) -> Pair:
    return score_squad.best_of(answer, list(references), agreeing_blanks=True)


SOGOUQA = Normaliser()
RULES: dict[Scorer, Callable[[str, Sequence[str]], Pair]] = {
    Scorer.sogouqa: _sogouqa,
    Scorer.cmrc: _cmrc,
    Scorer.squad: _squad,
}
