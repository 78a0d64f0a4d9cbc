"""Questions on the chemical elements, made from templates: a small set that needs no download.

A passage tells facts of several elements, each introduced by name and then often called 它, so that
finding the sentence of the right kind is not enough. Some passages lack the answer. What is asked
about in validation is never asked about in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kexue_cli.tasks.dgcnn.element_table import Element, read_table
from kexue_cli.tasks.dgcnn.records import Passage, Question

T = TypeVar("T")
VERSION = 1  # counted up when the questions change


@dataclass(frozen=True)
class Fact:
    """Something that can be told of an element (`{who}`) and asked about it.

    `answer` stands in `sentences` as {answer}; the other fields are those of `Element`.
    """

    answer: str
    questions: tuple[str, ...]
    sentences: tuple[str, ...]

    def tells(self, element: Element) -> bool:
        """Whether the element has this fact."""
        return "" not in (element.discoverer, element.year) or not any(
            field in self.answer for field in ("discoverer", "year")
        )

    def answer_for(self, element: Element) -> str:
        """What is to be found."""
        return fill(self.answer, element)

    def sentence(self, element: Element, who: str, rng: np.random.Generator) -> str:
        """The fact in one of its wordings, without its stop."""
        text = pick(self.sentences, rng)
        return fill(text.replace("{answer}", self.answer), element, who)


FACTS = {
    "number": Fact(
        "第{number}号",
        ("{name}是元素周期表中的第几号元素？", "{name}在元素周期表里排第几号？"),
        ("{who}是{answer}元素", "在元素周期表里{who}排在{answer}", "人们把{who}编为{answer}"),
    ),
    "symbol": Fact(
        "{symbol}",
        ("{name}的元素符号是什么？", "{name}用什么符号表示？", "哪个符号代表{name}？"),
        ("{who}的元素符号是{answer}", "化学式里用{answer}表示{who}", "{who}记作{answer}"),
    ),
    "english": Fact(
        "{english}",
        ("{name}的英文名称是什么？", "{name}用英语怎么说？"),
        ("{who}的英文名称为{answer}", "英语里把{who}称为{answer}", "{who}译自{answer}一词"),
    ),
    "mass": Fact(
        "{mass}",
        ("{name}的相对原子质量是多少？", "{name}的原子量为多少？"),
        ("{who}的相对原子质量约为{answer}", "{who}的原子量是{answer}", "测得{who}的原子量{answer}"),
    ),
    "discoverer": Fact(
        "{discoverer}",
        ("谁发现了{name}？", "{name}是谁发现的？", "发现{name}的化学家是谁？"),
        ("{who}由{answer}发现", "{answer}首先发现了{who}", "{who}的发现要归功于{answer}"),
    ),
    "year": Fact(
        "{year}年",
        ("{name}是哪一年发现的？", "{name}在什么时候被发现？"),
        ("人们在{answer}发现了{who}", "{who}的发现是在{answer}", "{answer}，{who}首次为人所知"),
    ),
    "period": Fact(
        "第{period}周期",
        ("{name}位于第几周期？", "{name}属于哪个周期？"),
        ("{who}位于{answer}", "{who}是{answer}的成员", "在{answer}里可以找到{who}"),
    ),
}  # fmt: skip
BY_CLUE = {
    "number": ("第{number}号元素叫什么？", "元素周期表中第{number}号是哪种元素？"),
    "symbol": ("元素符号{symbol}代表什么元素？", "{symbol}是哪种元素的符号？"),
    "english": ("{english}的中文名称是什么？", "英语{english}指的是哪种元素？"),
}
"""Questions for the name, given another fact."""


def fill(template: str, element: Element, who: str = "") -> str:
    """The template with the element's own values."""
    return template.format(who=who, period=element.period, **vars(element))


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of them."""
    return options[int(rng.integers(len(options)))]


def shuffled(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    """All of them in random order."""
    return [items[i] for i in rng.permutation(len(items))]


def questions(
    n_questions: int, n_passages: int, answered: float, seed: int, asked: tuple[bool, ...]
) -> Iterator[Question]:
    """Questions with their passages, the same for the same arguments.

    Args:
        n_questions: how many.
        n_passages: of each question.
        answered: share of passages that hold the answer; at least one does.
        seed: of everything random.
        asked: asked[i % len(asked)] says whether questions are about element number i + 1.
    """
    rng = np.random.default_rng([seed, *asked])
    table = read_table()
    candidates = [e for i, e in enumerate(table) if asked[i % len(asked)]]
    for number in range(n_questions):
        element = pick(candidates, rng)
        yield make_question(f"e{number:05d}", element, table, n_passages, answered, rng)


def make_question(
    id: str,
    element: Element,
    table: list[Element],
    n_passages: int,
    answered: float,
    rng: np.random.Generator,
) -> Question:
    """A question about one element."""
    by_clue = rng.random() < 0.3
    # One letter would be found inside other words, everywhere.
    kinds = [k for k in (BY_CLUE if by_clue else FACTS) if k != "symbol" or len(element.symbol) > 1]
    kinds = [kind for kind in kinds if FACTS[kind].tells(element)]
    kind = pick(kinds, rng)
    answer = element.name if by_clue else FACTS[kind].answer_for(element)
    wording = BY_CLUE[kind] if by_clue else FACTS[kind].questions
    holds = rng.random(n_passages) < answered
    holds[rng.integers(n_passages)] = True
    passages = []
    for i, held in enumerate(holds):
        text = passage_text(element, kind, answer, bool(held), table, rng)
        passages.append(Passage(str(i), text, answer if held else ""))
    text = fill(pick(wording, rng), element)
    return Question(id, text, tuple(passages), (answer,), source="elements")


def passage_text(
    element: Element,
    kind: str,
    answer: str,
    held: bool,
    table: list[Element],
    rng: np.random.Generator,
) -> str:
    """Facts of two to four elements; only if `held` the fact that is asked for."""
    about: list[tuple[Element, list[str]]] = []
    if held:
        about.append((element, [kind, *other_kinds(element, {kind}, rng, 2)]))
    elif answer != element.name:
        # The right element, but what is asked for is not told of it.
        about.append((element, other_kinds(element, {kind, "symbol"}, rng, 3)))
    while len(about) < 3 or (len(about) < 4 and rng.random() < 0.5):
        other = pick(table, rng)
        if other.number != element.number and FACTS[kind].tells(other):
            about.append((other, [kind, *other_kinds(other, {kind, "symbol"}, rng, 2)]))
    blocks = [block_text(other, kinds, rng) for other, kinds in shuffled(about, rng)]
    text = "".join(blocks)
    if not held and answer.lower() in text.lower():
        return passage_text(element, kind, answer, held, table, rng)
    return text


def other_kinds(
    element: Element, without: set[str], rng: np.random.Generator, most: int
) -> list[str]:
    """Up to `most` kinds of facts of the element, at least one."""
    kinds = [k for k, fact in FACTS.items() if k not in without and fact.tells(element)]
    return shuffled(kinds, rng)[: rng.integers(1, most + 1)]


def block_text(element: Element, kinds: list[str], rng: np.random.Generator) -> str:
    """Facts of one element in random order, after the first often without its name."""
    sentences: list[str] = []
    for kind in shuffled(kinds, rng):
        who = element.name if not sentences or rng.random() < 0.4 else "它"
        sentences.append(FACTS[kind].sentence(element, who, rng))
    return "，".join(sentences) + "。"
