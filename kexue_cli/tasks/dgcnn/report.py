"""What a reader gets right and wrong: scores by kind of question, a page of questions.

`questions_<split>.html` shows mistakes first, each passage with the scores of answers beginning
(blue) and ending (orange) at every character. The run's report links to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.report import html
from kexue_cli.tasks.dgcnn.normalise import LEVELLED, occurrences
from kexue_cli.tasks.dgcnn.question_types import question_type
from kexue_cli.tasks.dgcnn.records import Question

if TYPE_CHECKING:
    from kexue_cli.run.context import Context
    from kexue_cli.tasks.dgcnn.answering import Answered

Floats = NDArray[np.float32]
Score = Callable[[str, Sequence[str]], tuple[bool, float]]  # exact match, F1

MOST_QUESTIONS = 200
MOST_PASSAGES = 6
MOST_CHARACTERS = 600  # of a passage, around what scores highest
LEVELS = 9  # of colour

LENGTHS = (1, 2, 3, 4, 6, 9, 14, 24)  # upper ends of the classes of answer length
SUPPORT = (0, 1, 3, 7)  # of the classes of passages that hold the answer

STYLE = """<style>
.passage { font: 15px/1.9 "Noto Sans CJK SC", "PingFang SC", sans-serif; overflow-wrap: anywhere; }
.passage span { border-radius: 2px; padding: 2px 0; }
.passage u { text-decoration-color: var(--good); text-decoration-thickness: 3px; }
.wrong { color: var(--bad); } .right { color: var(--good); }
</style>"""


@dataclass(frozen=True)
class Judged:
    """A question with what was answered and how it scored."""

    question: Question
    answered: Answered
    exact: bool
    f1: float


def write(
    ctx: Context, split: str, found: Iterable[tuple[Question, Answered]], score: Score
) -> None:
    """Write tables by answer length, question type and support, and the page of questions."""
    judged = [Judged(q, a, *score(a.answer, q.answers)) for q, a in found if q.answers]
    if not judged:
        return
    directory = ctx.directory
    for name, (_, of) in CLASSES.items():
        directory.write_table(f"scores_by_{name}_{split}.csv", by_class(judged, of))
    directory.write_text(f"questions_{split}.html", page(split, judged))


def by_class(judged: Sequence[Judged], of: Callable[[Question], str]) -> list[dict[str, Any]]:
    """Number of questions, share of exact answers, mean F1 of each class."""
    classes: dict[str, list[Judged]] = {}
    for one in judged:
        classes.setdefault(of(one.question), []).append(one)
    return [
        {
            "class": name.strip(),
            "questions": len(members),
            "exact": sum(one.exact for one in members) / len(members),
            "f1": sum(one.f1 for one in members) / len(members),
            "unanswered": sum(not one.answered.answer for one in members) / len(members),
        }
        for name, members in sorted(classes.items())
    ]


def length_class(question: Question) -> str:
    """Class of the first accepted answer's length in characters."""
    return class_of(len(question.answers[0]), LENGTHS)


def support_class(question: Question) -> str:
    """Class of the number of passages that hold an accepted answer."""
    return class_of(sum(bool(passage.answer) for passage in question.passages), SUPPORT)


def type_class(question: Question) -> str:
    """What the question asks for."""
    return question_type(question.text)


def class_of(number: int, upper_ends: Sequence[int]) -> str:
    """Such as 5-6; a blank sorts one digit first."""
    lower = min(1, upper_ends[0])
    for upper in upper_ends:
        if number <= upper:
            return f"{lower:2}" if lower == upper else f"{lower:2}-{upper}"
        lower = upper + 1
    return f"{lower:2} or more"


CLASSES: dict[str, tuple[str, Callable[[Question], str]]] = {
    "length": ("By answer length", length_class),
    "type": ("By question type", type_class),
    "support": ("By passages that hold the answer", support_class),
}


def page(split: str, judged: Sequence[Judged]) -> str:
    """The page of questions, those with the lowest F1 first."""
    worst = sorted(judged, key=lambda one: (one.exact, one.f1))[:MOST_QUESTIONS]
    right = sum(one.exact for one in judged)
    note = f"{right} of {len(judged)} right; shown: the {len(worst)} with the lowest F1. "
    note += "Blue: an answer may begin here; orange: may end; underlined: the marked answer."
    return html.page(
        f"questions · {split}",
        [
            STYLE,
            f"<h1>Questions of {escape(split)}</h1><p class=soft>{note}</p>",
            *(
                html.section(title, html.table(by_class(judged, of)))
                for title, of in CLASSES.values()
            ),
            html.section("Questions", *(question_html(one) for one in worst)),
        ],
    )


def question_html(one: Judged) -> str:
    """One question: wanted and given answers, candidates, passages with their heat."""
    given = one.answered.answer or "—"
    verdict = "right" if one.exact else "wrong"
    candidates = ", ".join(f"{v.answer} {v.score:.3f}" for v in one.answered.voted[:5])
    summary = (
        f"<summary><span class={verdict}>{'✓' if one.exact else '✗'}</span> "
        f"{escape(one.question.text)} <span class=soft>{escape(one.question.id)}</span></summary>"
    )
    rows = [
        {"": "accepted", "answer": " | ".join(one.question.answers[:5])},
        {"": "given", "answer": given},
        {"": "candidates", "answer": candidates},
        {"": "F1", "answer": f"{one.f1:.3f}"},
    ]
    passages = "".join(passage_html(one, k) for k in shown_passages(one))
    left_out = len(one.question.passages) - MOST_PASSAGES
    more = f"<p class=soft>{left_out} further passages</p>" if left_out > 0 else ""
    return f"<details>{summary}\n{html.table(rows)}\n{passages}{more}</details>"


def shown_passages(one: Judged) -> list[int]:
    """Passages that support the winner, then those marked, then the others, as far as shown."""
    support = [k for k, _ in one.answered.voted[0].support] if one.answered.voted else []
    marked = [k for k, passage in enumerate(one.question.passages) if passage.answer]
    everything = range(len(one.question.passages))
    return list(dict.fromkeys([*support, *marked, *everything]))[:MOST_PASSAGES]


def passage_html(one: Judged, k: int) -> str:
    """A passage whose characters are coloured by their scores."""
    passage, (start, end) = one.question.passages[k], one.answered.heat[k]
    text, n = passage.text, min(len(passage.text), len(start))
    heat = levels(start[:n]), levels(end[:n])
    at = int(np.argmax(np.maximum(start[:n], end[:n]))) if n else 0
    first = max(0, min(at - MOST_CHARACTERS // 2, len(text) - MOST_CHARACTERS))
    last = min(len(text), first + MOST_CHARACTERS)
    marked = marks(text, passage.answer)
    keys = [
        (int(heat[0][i]), int(heat[1][i]), bool(marked[i])) if i < n else (0, 0, bool(marked[i]))
        for i in range(first, last)
    ]
    pieces = [
        coloured(text[first + group[0] : first + group[-1] + 1], *key)
        for key, members in groupby(range(last - first), key=lambda i: keys[i])
        for group in [list(members)]
    ]
    body = "".join(["… " if first else "", *pieces, " …" if last < len(text) else ""])
    return f"<p class=passage><span class=soft>[{escape(passage.id)}]</span> {body}</p>"


def levels(scores: Floats) -> NDArray[np.int64]:
    """Scores from 0 to 1 as levels 0 to LEVELS; square roots, so that weak ones show."""
    return np.rint(np.sqrt(np.clip(scores, 0, 1)) * LEVELS).astype(np.int64)


def marks(text: str, answer: str) -> NDArray[np.bool_]:
    """Characters that belong to an occurrence of the answer, width and case apart."""
    marked = np.zeros(len(text), bool)
    for at in occurrences(LEVELLED(text), LEVELLED(answer)):
        marked[at : at + len(answer)] = True
    return marked


def coloured(text: str, start: int, end: int, marked: bool) -> str:
    """Text on a ground that is blue above by `start` and orange below by `end`."""
    body = f"<u>{escape(text)}</u>" if marked else escape(text)
    if not start and not end:
        return body
    blue, orange = (f"rgba({rgb},{level / LEVELS:.2f})" for rgb, level in
                    (("59,130,246", start), ("249,115,22", end)))  # fmt: skip
    ground = f"linear-gradient({blue} 50%,{orange} 50%)"
    return f'<span style="background:{ground}">{body}</span>'
