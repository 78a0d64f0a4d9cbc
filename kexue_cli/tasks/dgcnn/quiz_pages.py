"""Pages as question-and-answer sites write them, made of questions whose answers are known.

Much of what a search engine finds for a Chinese trivia question repeats the question: with the
answer behind it in one of many forms, turned into a statement, in a numbered list of other
questions, or, from forums, with no answer at all. Annotated evidence has none of this. From such
pages a reader learns that the answer to its own question counts, and not one that stands nearby.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kexue_cli.tasks.dgcnn.elements import pick
from kexue_cli.tasks.dgcnn.records import Passage, Question

VERSION = 1  # counted up when the pages change
LONGEST_ANSWER = 12  # characters; longer ones are no quiz answers
LONGEST_PAGE = 300  # characters
ANSWERED = 0.6  # share of pages that hold the answer
OTHERS = (0, 0, 0, 1, 1, 2, 3, 4, 6)  # further questions on a page, drawn from these
STATED = 0.45  # share of answers told as a statement
LEFT_OPEN = 0.15  # share of the other questions that have no answer
BESIDE = 0.2  # share of pages before or behind the question's own passage

FORMS = (
    "{asked}？{answer}",
    "{asked}?答案：{answer}",
    "{asked}：{answer}",
    "问：{asked}？答：{answer}",
    '"{asked}"---"{answer}"',
    "{asked}（{answer}）",
    "{asked} 答案是{answer}",
    "问题：{asked} 答案：{answer}",
    "{asked}——{answer}",
    "{asked} {answer}",
)
OPEN_FORMS = (
    *("{asked}？", "{asked}（a）", "{asked}（b）", "{asked}（c）", "{asked}-", "{asked}?求解答！"),
    *("{asked}_问答", "请问{asked}", "{asked} 悬赏分：0"),
)
LAST_MARKS = ("", "。", "！", "...", ",", "；", " ")
MARKS = ("。", "；", " ", "，", "")
STOPS = "？?。：:.!！ "
COPULAS = ("是", "为", "叫")
ASKING = re.compile(
    "什么(?:地方|时候|时间|名字|动物|国家|城市|颜色|朝代|人|书)?"
    "|哪(?:一)?[个位座种部条国年本些家省里儿首款所名项类支只颗]"
    "(?:国家|城市|省份|省|人|朝代|地方|公司|作家|诗人|民族|洲|年)?"
    "|谁|何[时地人处物]|多少|几"
)


@dataclass(frozen=True)
class Known:
    """A question with a short answer, and a passage that says so."""

    question: Question
    asked: str
    answer: str
    passage: str


def known(questions: Sequence[Question]) -> list[Known]:
    """Those with a short answer in one of their passages."""
    found = []
    for question in questions:
        passage = next((p for p in question.passages if p.answer), None)
        if passage is not None and len(passage.answer) <= LONGEST_ANSWER:
            asked = question.text.strip().rstrip(STOPS)
            found.append(Known(question, asked, passage.answer, passage.text))
    return found


def quiz_pages(questions: Sequence[Question], n_pages: int, seed: int) -> Iterator[Question]:
    """Each question with a short answer again, with `n_pages` made pages instead of its passages.

    The first pages, `ANSWERED` of them, hold the answer. The same arguments give the same pages.
    """
    items = known(questions)
    rng = np.random.default_rng(seed)
    for item in items:
        passages = []
        for k in range(n_pages):
            text = page(item, items, rng, answered=k < round(ANSWERED * n_pages))
            answer = item.answer if item.answer in text else ""
            passages.append(Passage(f"quiz{k}", text, answer))
        yield Question(
            f"{item.question.id} quiz",
            item.question.text,
            tuple(passages),
            item.question.answers,
            item.question.source,
        )


def page(item: Known, items: Sequence[Known], rng: np.random.Generator, answered: bool) -> str:
    """One page: the question, answered or not, among others."""
    parts = []
    for other in (items[int(i)] for i in rng.integers(len(items), size=pick(OTHERS, rng))):
        told = open_form(other, rng) if rng.random() < LEFT_OPEN else answered_form(other, rng)
        if item.answer not in told:
            parts.append(told)
    own = answered_form(item, rng) if answered else open_form(item, rng)
    parts.insert(int(rng.integers(len(parts) + 1)), own)
    text = joined(parts, rng)
    if rng.random() < BESIDE:
        beside = item.passage[: LONGEST_PAGE // 2]
        if answered or item.answer not in beside:
            text = text + beside if rng.random() < 0.5 else beside + text
    return text[:LONGEST_PAGE]


def joined(parts: list[str], rng: np.random.Generator) -> str:
    """Parts with marks behind them, numbered or not."""
    if rng.random() < 1 / 3:
        first, mark = int(rng.integers(1, 60)), "、" if rng.random() < 1 / 3 else "."
        parts = [f"{first + i}{mark}{part}" for i, part in enumerate(parts)]
    marks = LAST_MARKS if len(parts) == 1 else MARKS
    text = "".join(part + pick(marks, rng) for part in parts)
    return "答：" + text if rng.random() < 0.4 else text


def answered_form(item: Known, rng: np.random.Generator) -> str:
    """The question with its answer."""
    if rng.random() < STATED:
        return statement(item, rng)
    return pick(FORMS, rng).format(asked=item.asked, answer=item.answer)


def open_form(item: Known, rng: np.random.Generator) -> str:
    """The question without an answer."""
    return pick(OPEN_FORMS, rng).format(asked=item.asked)


def statement(item: Known, rng: np.random.Generator) -> str:
    """The question with the answer where it asks; behind it where no word asks."""
    asking = list(ASKING.finditer(item.asked))
    if asking:
        begin, end = asking[-1].span()
        return (item.asked[:begin] + item.answer + item.asked[end:]).rstrip("吗呢啊 ")
    if item.asked.endswith(COPULAS):
        return item.asked + item.answer
    return item.asked + pick((*COPULAS, "：", ""), rng) + item.answer
