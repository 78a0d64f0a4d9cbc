"""The official scores of SQuAD 1.1 and 2.0 (rajpurkar.github.io/SQuAD-explorer).

Both compare words in lower case without ASCII punctuation and English articles and take the best of
the references. They differ in what an empty answer is worth and in missing predictions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.squad_files import (
    Question,
    questions_of,
    read_answer_file,
    read_predictions,
    refuse_foreign,
)

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(a|an|the)\b")


def score(predictions: Path, answers: Path) -> dict[str, float | int]:
    """Score {id: answer} in a JSON file against a SQuAD file, in per cent.

    The rules of 2.0 apply when a question carries `is_impossible`; then an empty answer is right
    for a question without references, and every question needs a prediction. With those of 1.1 a
    question without prediction scores 0. Raises UserError for files of another form.
    """
    given = read_predictions(predictions)
    articles = read_answer_file(answers)
    questions = list(questions_of(articles, answers))
    if not questions:
        raise UserError(f"{answers}: holds no questions")
    refuse_foreign(given, (question.id for question in questions), predictions)
    if is_version_2(articles):
        return score_version_2(given, questions, predictions)
    return score_version_1(given, questions, answers)


def is_version_2(articles: list[Any]) -> bool:
    """Whether any question says if it can be answered."""
    return any(
        "is_impossible" in qa
        for article in articles
        for paragraph in article.get("paragraphs", [article])
        for qa in paragraph["qas"]
    )


def score_version_1(
    given: dict[str, str], questions: list[Question], answers: Path
) -> dict[str, float | int]:
    """SQuAD 1.1: exact match and F1."""
    pairs = []
    for question in questions:
        if not question.references:
            raise UserError(f"{answers}, question {question.id}: it has no reference answer")
        if question.id in given:
            pairs.append(best_of(given[question.id], question.references, agreeing_blanks=False))
    return {**means(pairs, len(questions)), "unanswered": len(questions) - len(pairs)}


def score_version_2(
    given: dict[str, str], questions: list[Question], predictions: Path
) -> dict[str, float | int]:
    """SQuAD 2.0: the same over all questions, those with references and those without."""
    missing = [question.id for question in questions if question.id not in given]
    if missing:
        raise UserError(
            f"{predictions}: {len(missing)} questions have no prediction, {missing[0]} among them; "
            'SQuAD 2.0 expects one for each, "" for no answer'
        )
    pairs = []
    for question in questions:
        references = [text for text in question.references if normalise(text)] or [""]
        pairs.append(best_of(given[question.id], references, agreeing_blanks=True))
    result = means(pairs, len(pairs))
    for prefix, wanted in (("has_answer", True), ("no_answer", False)):
        part = [p for p, q in zip(pairs, questions, strict=True) if q.answerable is wanted]
        if part:
            result |= {f"{prefix}_{key}": value for key, value in means(part, len(part)).items()}
    return result


def means(pairs: list[tuple[bool, float]], total: int) -> dict[str, float | int]:
    """Exact match, F1 and their mean in per cent of `total` questions."""
    total_f1 = 0.0
    for _, f1 in pairs:  # one by one: `sum` rounds differently from Python 3.12 on
        total_f1 += f1
    em, f1 = 100.0 * sum(exact for exact, _ in pairs) / total, 100.0 * total_f1 / total
    return {"em": em, "f1": f1, "mean": (em + f1) / 2, "questions": total}


def best_of(
    answer: str, references: list[str] | tuple[str, ...], agreeing_blanks: bool
) -> tuple[bool, float]:
    """Exact match and F1, each with the reference that suits it best."""
    exact = any(normalise(answer) == normalise(reference) for reference in references)
    return exact, max(word_f1(answer, reference, agreeing_blanks) for reference in references)


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, single blanks."""
    return " ".join(ARTICLE.sub(" ", text.lower().translate(PUNCTUATION)).split())


def word_f1(answer: str, reference: str, agreeing_blanks: bool) -> float:
    """F1 over words with their multiplicity; of two empty texts it is 1 if `agreeing_blanks`."""
    given, wanted = normalise(answer).split(), normalise(reference).split()
    if agreeing_blanks and not given and not wanted:
        return 1.0
    common = (Counter(given) & Counter(wanted)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return (2 * precision * recall) / (precision + recall)
