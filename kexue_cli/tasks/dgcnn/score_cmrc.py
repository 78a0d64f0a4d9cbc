"""The official score of CMRC 2018 (github.com/ymcui/cmrc2018, `cmrc2018_evaluate.py`, version 6).

Exact match after lower case and without the listed punctuation; F1 from the longest common run of
segments, which are Chinese characters and the words between them. The best of the references
counts. The words are NLTK 3.7's but for a few abbreviations (see `latin_words`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.latin_words import words
from kexue_cli.tasks.dgcnn.squad_files import (
    questions_of,
    read_answer_file,
    read_predictions,
    refuse_foreign,
)

# As the tool has it: its "……" is two characters long and so never found in a text.
PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
CHINESE = re.compile("([\u4e00-\u9fa5])")


def score(predictions: Path, answers: Path) -> dict[str, float | int]:
    """Score {id: answer} in a JSON file against a file of CMRC 2018, in per cent.

    A question without a prediction scores 0. Raises UserError for files of another form.
    """
    given = read_predictions(predictions)
    total = n_answered = n_exact = 0
    # Added one by one, as in the tool: `sum` rounds differently from Python 3.12 on.
    total_f1 = 0.0
    questions = list(questions_of(read_answer_file(answers), answers))
    refuse_foreign(given, (question.id for question in questions), predictions)
    for question in questions:
        total += 1
        if not question.references:
            raise UserError(f"{answers}, question {question.id}: it has no reference answer")
        if question.id not in given:
            continue
        n_answered += 1
        answer = given[question.id]
        n_exact += any(same(answer, reference) for reference in question.references)
        total_f1 += max(f1(answer, reference) for reference in set(question.references))
    if not total:
        raise UserError(f"{answers}: holds no questions")
    em, mean_f1 = 100.0 * n_exact / total, 100.0 * total_f1 / total
    return {
        "em": em,
        "f1": mean_f1,
        "mean": (em + mean_f1) * 0.5,
        "questions": total,
        "unanswered": total - n_answered,
    }


def plain(text: str) -> str:
    """Lower case without the listed punctuation; white space inside stays."""
    return text.lower().strip().translate(PUNCTUATION)


def same(answer: str, reference: str) -> bool:
    """Whether the two match exactly."""
    return plain(answer) == plain(reference)


@lru_cache(maxsize=16)
def segments(text: str) -> list[str]:
    """Chinese characters one by one, what lies between them in words."""
    pieces = CHINESE.split(plain(text))
    return [
        segment
        for number, piece in enumerate(pieces)
        for segment in ([piece] if number % 2 else words(piece))
    ]


def f1(answer: str, reference: str) -> float:
    """F1 of the longest common run of segments."""
    given, wanted = segments(answer), segments(reference)
    common = longest_common_run(given, wanted)
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def longest_common_run(first: list[str], second: list[str]) -> int:
    """Length of the longest sequence of neighbours that both contain."""
    longest = 0
    ending_before = [0] * (len(second) + 1)
    for item in first:
        ending_here = [0]
        for length, other in zip(ending_before, second, strict=False):
            ending_here.append(length + 1 if item == other else 0)
        longest = max(longest, *ending_here)
        ending_before = ending_here
    return longest
