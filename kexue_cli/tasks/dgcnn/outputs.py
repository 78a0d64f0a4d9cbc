"""Answers of a run as files: the contest's lines, CMRC's and SQuAD's JSON, all candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kexue_cli.tasks.dgcnn.problems import Problems
from kexue_cli.tasks.dgcnn.records import RETRIEVED, Question

if TYPE_CHECKING:
    from kexue_cli.run.context import Context
    from kexue_cli.tasks.dgcnn.answering import Answered

Found = Sequence[tuple[Question, "Answered"]]
MOST_CANDIDATES = 5  # of a question
ONE_LINE = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def write(ctx: Context, split: str, found: Found) -> None:
    """Write answers of questions (.txt, .json) and passages (.json), and candidates (.csv)."""
    ctx.directory.write_text(f"answers_{split}.txt", as_lines(found))
    ctx.directory.write_json(f"answers_{split}.json", as_mapping(found))
    ctx.directory.write_json(f"passage_answers_{split}.json", by_passage(found))
    ctx.directory.write_table(f"candidates_{split}.csv", candidates(found))


def write_problems(ctx: Context, problems: Problems) -> None:
    """Write what was odd in the files read, if anything was, as `problems.csv`."""
    names = ("kind", "file", "question", "passage", "found")
    rows = [dict(zip(names, row, strict=True)) for row in problems.listed]
    if rows:
        ctx.directory.write_table("problems.csv", rows)


def as_lines(found: Found) -> str:
    """SogouQA's form: lines `id<TAB>answer`; tabs and line ends in answers are blanks."""
    return "".join(
        f"{question.id.translate(ONE_LINE)}\t{answered.answer.translate(ONE_LINE)}\n"
        for question, answered in found
    )


def as_mapping(found: Found) -> dict[str, str]:
    """The form that the scorers of CMRC 2018 and SQuAD read: {id: answer}, "" for none."""
    return {question.id: answered.answer for question, answered in found}


def by_passage(found: Found) -> dict[str, dict[str, str]]:
    """The surest answer of each passage, {id: {passage: answer}}, as WebQA is scored.

    Without retrieved passages, of which the files that answers are scored by know nothing.
    """
    answers: dict[str, dict[str, str]] = {}
    for question, answered in found:
        best: dict[int, tuple[float, str]] = {}
        for voted in answered.voted:
            for k, score in voted.support:
                best[k] = max(best.get(k, (0.0, "")), (score, voted.answer))
        by_id = {question.passages[k].id: answer for k, (_, answer) in sorted(best.items())}
        answers[question.id] = {
            key: answer for key, answer in by_id.items() if not key.startswith(RETRIEVED)
        }
    return answers


def candidates(found: Found) -> list[dict[str, object]]:
    """The best candidates of each question, with the passages that propose them and how surely."""
    return [
        {
            "id": question.id,
            "rank": rank,
            "answer": voted.answer,
            "score": voted.score,
            "passages": " ".join(f"{question.passages[k].id}:{s:.4f}" for k, s in voted.support),
        }
        for question, answered in found
        for rank, voted in enumerate(answered.voted[:MOST_CANDIDATES], start=1)
    ]
