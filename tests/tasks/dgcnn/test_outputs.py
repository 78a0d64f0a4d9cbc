"""Answers as the scorers read them, and what is beside them."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kexue_cli.run.directory import RunDirectory
from kexue_cli.tasks.dgcnn import outputs, report, score_cmrc, score_sogouqa, score_webqa
from kexue_cli.tasks.dgcnn.answering import Answered
from kexue_cli.tasks.dgcnn.problems import Problems
from kexue_cli.tasks.dgcnn.records import RETRIEVED, Passage, Question
from kexue_cli.tasks.dgcnn.voting import vote

TEXTS = ["锗由温克勒发现<b>", "德国化学家温克勒", "没有"]


def pair(id: str, answers: tuple[str, ...], *scores: dict[str, float]) -> tuple[Question, Answered]:
    passages = tuple(
        Passage(f"p{k}", text, "温克勒" if "温克勒" in text else "") for k, text in enumerate(TEXTS)
    )
    heat = [np.linspace(0, 1, len(text), dtype=np.float32) for text in TEXTS]
    question = Question(id, f"谁发现了{id}？", passages, answers)
    return question, Answered(vote(scores), [(start, start[::-1]) for start in heat])


FOUND = [
    pair("right", ("温克勒",), {"温克勒": 0.9}, {"温克勒": 0.5, "德国": 0.6}, {}),
    pair("half", ("温克勒",), {"克勒": 0.7}, {}, {}),
    pair("none", ("温克勒",), {}, {}, {}),
    pair("tab", ("甲\t乙",), {"甲\t乙\n": 0.3}, {}, {}),
]


@pytest.fixture
def context(tmp_path: Path) -> Any:
    return SimpleNamespace(directory=RunDirectory(tmp_path / "run"))


def test_lines_score_with_the_contests_tool(context: Any, tmp_path: Path) -> None:
    outputs.write(context, "valid", FOUND[:3])
    answers = tmp_path / "answers"
    answers.write_text("".join(f"{q.id}\t温克勒\t温克勒\n" for q, _ in FOUND), encoding="utf-8")
    found = score_sogouqa.score(context.directory.path / "answers_valid.txt", answers)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["lines"] == 3


def test_tabs_and_line_ends_do_not_break_a_line() -> None:
    assert outputs.as_lines(FOUND[3:]) == "tab\t甲 乙 \n"


def test_json_scores_with_cmrcs_tool_and_webqas(context: Any, tmp_path: Path) -> None:
    outputs.write(context, "valid", FOUND[:3])
    qas = [
        {"id": q.id, "question": q.text, "answers": [{"text": "温克勒", "answer_start": 2}]}
        for q, _ in FOUND[:3]
    ]
    (tmp_path / "dev.json").write_text(
        json.dumps({"data": [{"paragraphs": [{"context": TEXTS[0], "qas": qas}]}]})
    )
    folder = context.directory.path
    em = score_cmrc.score(folder / "answers_valid.json", tmp_path / "dev.json")["em"]
    assert em == pytest.approx(100 / 3)
    blog = [
        {
            "id": q.id,
            "question": q.text,
            "passages": [{"id": p.id, "passage": p.text, "answer": p.answer} for p in q.passages],
        }
        for q, _ in FOUND[:3]
    ]
    (tmp_path / "blog.json").write_text(json.dumps(blog))
    found = score_webqa.score(folder / "passage_answers_valid.json", tmp_path / "blog.json")
    assert found["strict_recall"] == pytest.approx(1 / 3)
    assert found["evidence_strict_recall"] == pytest.approx(1 / 9)


def test_each_passages_surest_answer() -> None:
    assert outputs.by_passage(FOUND[:1]) == {"right": {"p0": "温克勒", "p1": "德国"}}
    assert outputs.by_passage(FOUND[2:3]) == {"none": {}}


def test_retrieved_passages_are_not_scored_one_by_one() -> None:
    question, answered = FOUND[0]
    first, *rest = question.passages
    passages = (replace(first, id=f"{RETRIEVED}0"), *rest)
    found = [(replace(question, passages=passages), answered)]
    assert outputs.by_passage(found) == {"right": {"p1": "德国"}}


def test_candidates_name_the_passages_that_support_them() -> None:
    rows = outputs.candidates(FOUND[:1])
    assert [row["answer"] for row in rows] == ["温克勒", "德国"]
    assert rows[0]["passages"] == "p0:0.9000 p1:0.5000"
    assert rows[0]["score"] == pytest.approx((0.81 + 0.25) / 2.4)


def test_problems_are_written_if_there_are_any(context: Any) -> None:
    problems = Problems()
    outputs.write_problems(context, problems)
    assert not (context.directory.path / "problems.csv").exists()
    problems.add("missing_answer", Path("f.json"), "q1", "p0", "德国")
    outputs.write_problems(context, problems)
    with (context.directory.path / "problems.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["question"]) for row in rows] == [("missing_answer", "q1")]


def score(answer: str, references: Any) -> tuple[bool, float]:
    common = len(set(answer) & set(references[0]))
    return answer in references, common / len(references[0])


def test_the_page_shows_mistakes_first_and_escapes_text(context: Any) -> None:
    report.write(context, "valid", FOUND, score)
    page = (context.directory.path / "questions_valid.html").read_text(encoding="utf-8")
    order = [page.index(f"谁发现了{id}？") for id in ("none", "half", "right")]
    assert order == sorted(order)
    assert "<b>" not in page.split("<h2>Questions</h2>")[1]
    assert "&lt;" in page
    assert "<u>温</u>" in page
    assert "linear-gradient" in page


def test_scores_by_length_type_and_support(context: Any) -> None:
    report.write(context, "valid", FOUND, score)
    with (context.directory.path / "scores_by_length_valid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["questions"]) for row in rows] == [("3", "4")]
    with (context.directory.path / "scores_by_type_valid.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["class"] == "who"
    assert float(row["exact"]) == 0.25
    assert float(row["unanswered"]) == 0.25
    with (context.directory.path / "scores_by_support_valid.csv").open() as file:
        held = {row["class"]: int(row["questions"]) for row in csv.DictReader(file)}
    assert held == {"2-3": 4}


@pytest.mark.parametrize(
    ("number", "name"), [(0, " 0"), (1, " 1"), (2, " 2-3"), (7, " 4-7"), (8, " 8 or more")]
)
def test_classes_of_numbers_sort_by_size(number: int, name: str) -> None:
    assert report.class_of(number, report.SUPPORT) == name


def test_questions_without_known_answers_give_no_page(context: Any) -> None:
    report.write(context, "test", [pair("q", (), {}, {}, {})], score)
    assert not list(context.directory.path.glob("*.html"))


def test_a_long_passage_is_shown_around_its_peak() -> None:
    text = "甲" * 2000 + "锗" + "乙" * 2000
    start = np.zeros(len(text), np.float32)
    start[2000] = 0.9
    question = Question("q", "?", (Passage("p", text, "锗"),), ("锗",))
    judged = report.Judged(question, Answered(vote([{"锗": 0.9}]), [(start, start)]), True, 1.0)
    shown = report.passage_html(judged, 0)
    assert "<u>锗</u>" in shown
    assert shown.count("… ") == 1
    assert shown.count(" …") >= 1
    assert len(shown) < 2000
