"""Made pages ask what their questions ask, and hold the answer where they say so."""

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.quiz_pages import (
    FORMS,
    LONGEST_ANSWER,
    LONGEST_PAGE,
    Known,
    known,
    quiz_pages,
    statement,
)
from kexue_cli.tasks.dgcnn.records import Passage, Question


def question(number: int, text: str, answer: str) -> Question:
    passage = Passage("0", f"据说{answer}正是所问。", answer)
    return Question(f"q{number}", text, (passage,), (answer,), source="s")


QUESTIONS = [
    question(0, "白云山在哪个城市？", "广州"),
    question(1, "《狂人日记》的作者是谁", "鲁迅"),
    question(2, "世界上最高的山峰是：", "珠穆朗玛峰"),
    question(3, "一年有多少天？", "365天"),
]


def test_the_same_seed_gives_the_same_pages_and_another_gives_others() -> None:
    pages = list(quiz_pages(QUESTIONS, 5, seed=1))
    assert pages == list(quiz_pages(QUESTIONS, 5, seed=1))
    assert pages != list(quiz_pages(QUESTIONS, 5, seed=2))


def test_a_page_is_marked_if_and_only_if_it_holds_the_answer() -> None:
    for made in quiz_pages(QUESTIONS, 40, seed=0):
        assert {p.answer for p in made.passages} == {"", made.answers[0]}
        for passage in made.passages:
            assert bool(passage.answer) == (made.answers[0] in passage.text)
            assert 0 < len(passage.text) <= LONGEST_PAGE


def test_questions_keep_what_they_ask_and_have_ids_of_their_own() -> None:
    made = list(quiz_pages(QUESTIONS, 3, seed=0))
    assert [q.text for q in made] == [q.text for q in QUESTIONS]
    assert {q.id for q in made}.isdisjoint(q.id for q in QUESTIONS)
    assert all(len({p.id for p in q.passages}) == 3 for q in made)


def test_long_answers_and_questions_without_one_are_left_out() -> None:
    odd = [
        question(8, "为什么？", "长" * (LONGEST_ANSWER + 1)),
        Question("q9", "谁？", (Passage("0", "不知道"),)),
    ]
    assert [q.id for q in quiz_pages([*odd, QUESTIONS[0]], 2, seed=0)] == ["q0 quiz"]
    assert list(quiz_pages(odd, 2, seed=0)) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, {"白云山在广州"}),
        (1, {"《狂人日记》的作者是鲁迅"}),
        (2, {"世界上最高的山峰是珠穆朗玛峰"}),
    ],
)
def test_a_statement_has_the_answer_where_the_question_asks(number: int, said: set[str]) -> None:
    (item,) = known([QUESTIONS[number]])
    assert statement(item, np.random.default_rng(0)) in said


def test_a_question_without_a_word_that_asks_gets_the_answer_behind_it() -> None:
    item = Known(QUESTIONS[0], "长城的长度", "两万里", "")
    made = {statement(item, np.random.default_rng(seed)) for seed in range(40)}
    assert made == {f"长城的长度{mark}两万里" for mark in ("是", "为", "叫", "：", "")}


def test_every_form_shows_question_and_answer() -> None:
    for form in FORMS:
        shown = form.format(asked="问甲", answer="答乙")
        assert shown.index("问甲") < shown.index("答乙")
