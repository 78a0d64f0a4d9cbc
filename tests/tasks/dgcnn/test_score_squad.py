"""The SQuAD scores follow the official rules of 1.1 and 2.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage.cli import main
from kexue_cli.tasks.dgcnn.score_squad import normalise, score, word_f1


def squad_files(
    folder: Path, qas: list[dict[str, Any]], given: dict[str, str]
) -> tuple[Path, Path]:
    answers, predictions = folder / "dev.json", folder / "predictions.json"
    answers.write_text(json.dumps({"data": [{"paragraphs": [{"qas": qas}]}]}))
    predictions.write_text(json.dumps(given))
    return predictions, answers


def question(name: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "answers": [{"text": text} for text in texts], **more}


def test_case_articles_and_ascii_punctuation_do_not_count():
    assert normalise(" The U.S.-led  an answer's") == "usled answers"
    assert normalise("theatre “a”") == "theatre “ ”"  # only ASCII punctuation is dropped


def test_f1_counts_repeated_words():
    assert word_f1("new new york", "new york city", False) == pytest.approx(2 / 3)


def test_squad_1_takes_the_best_reference_and_scores_missing_predictions_zero(tmp_path):
    qas = [
        question("a", "Denver Broncos", "the Broncos"),
        question("b", "gold"),
        question("c", "x"),
    ]
    files = squad_files(tmp_path, qas, {"a": "Broncos.", "b": "solid gold"})
    found = score(*files)
    assert found["em"] == pytest.approx(100 / 3)
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert (found["questions"], found["unanswered"]) == (3, 1)


def test_references_in_columns_are_read(tmp_path):
    qa = {"id": "a", "answers": {"text": ["gold", "solid gold"], "answer_start": [6, 0]}}
    found = score(*squad_files(tmp_path, [qa], {"a": "gold"}))
    assert (found["em"], found["f1"]) == (100.0, 100.0)


def test_two_texts_without_words_match_exactly_but_share_no_word_in_squad_1(tmp_path):
    found = score(*squad_files(tmp_path, [question("a", "The")], {"a": "a"}))
    assert (found["em"], found["f1"]) == (100.0, 0.0)


def test_squad_2_wants_an_empty_answer_where_there_is_none(tmp_path):
    qas = [
        question("a", "gold medal", is_impossible=False),
        question("b", is_impossible=True),
        question("c", is_impossible=True),
    ]
    found = score(*squad_files(tmp_path, qas, {"a": "gold", "b": "", "c": "silver"}))
    assert found["em"] == pytest.approx(100 / 3)
    assert found["f1"] == pytest.approx(100 * (2 / 3 + 1) / 3)
    assert (found["has_answer_em"], found["has_answer_questions"]) == (0.0, 1)
    assert (found["no_answer_em"], found["no_answer_f1"]) == (50.0, 50.0)


def test_squad_2_refuses_missing_predictions(tmp_path):
    files = squad_files(tmp_path, [question("a", is_impossible=True)], {})
    with pytest.raises(UserError, match="1 questions have no prediction, a among them"):
        score(*files)


def test_the_command_prints_a_table_and_refuses_foreign_options(tmp_path, capsys):
    predictions, answers = squad_files(tmp_path, [question("a", "gold")], {"a": "gold"})
    words = ["score", "squad", str(predictions), "--answers", str(answers)]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["em", "100.0"]
    assert main([*words, "--punctuation", "list"]) == 2
    assert "--punctuation is for sogouqa" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("predictions", "answers", "message"),
    [
        (None, {"data": []}, r'predictions\.json: expected \{"id": "answer", …\}, found null'),
        ({}, None, r"dev\.json: expected a list of articles, .*found null"),
        ({}, {"data": ["x"]}, r'dev\.json, article 0: .*an article must be an object, found "x"'),
        ({}, [{"qas": [{"id": "a"}]}], r"dev\.json, article 0: .*'answers' is missing"),
    ],
)
def test_what_another_file_holds_is_told_in_words(tmp_path, predictions, answers, message):
    for name, content in (("predictions", predictions), ("dev", answers)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        score(tmp_path / "predictions.json", tmp_path / "dev.json")
