"""The CMRC 2018 score equals the official tool's."""

from __future__ import annotations

import json

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.latin_words import words
from kexue_cli.tasks.dgcnn.score_cmrc import f1, longest_common_run, same, score, segments


def test_given_predictions_score_as_with_the_official_tool(data_dir):
    folder = data_dir / "cmrc2018"
    if not (folder / "eval_case").is_dir():
        pytest.skip("no cmrc2018/eval_case")
    found = score(folder / "eval_case" / "predictions.json", folder / "dev.json")
    # The official tool with NLTK 3.7 and its English model, unrounded.
    assert found["em"] == 62.10003106554831
    assert found["f1"] == 82.07159218324068
    assert (found["questions"], found["unanswered"]) == (3219, 0)


# The right sides are what NLTK 3.7's word_tokenize returned.
@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        ("henry a. walsh ", "henry a. walsh"),
        ('"r. d. branderi"', "`` r. d. branderi ''"),
        ("t.f. gilbert", "t.f . gilbert"),
        ("cathedral church of st. paul", "cathedral church of st. paul"),
        ("powell v. alabama1932", "powell v. alabama1932"),
        ("4. partners", "4. partners"),
        ("just can't help it.\"just", "just ca n't help it . `` just"),
        (
            '"feist publications, inc., v. rural telephone service co."',
            "`` feist publications , inc. , v. rural telephone service co . ''",
        ),
        ("rock & roll", "rock & roll"),
        ("1,000", "1,000"),
        ("cannot, 'tis gotta—", "can not , 't is got ta —"),
        ("don't'", "do n't '"),
        ("it's", "it 's"),
        ("ok. it", "ok. it"),
        ("no. #1. co", "no . # 1. co"),
        ("don't. ; i", "do n't . ; i"),
        ("", ""),
    ],
)
def test_words_between_chinese_characters_are_nltks(run, wanted):
    assert words(run) == wanted.split()


def test_segments_are_characters_and_words_without_listed_punctuation():
    assert segments("《任天堂》的Game-Boy, 1989年") == [*"任天堂的", "gameboy", ",", "1989", "年"]


def test_exact_match_ignores_case_and_listed_punctuation_but_not_inner_blanks():
    assert same("《ABC》。", "abc")
    assert not same("a bc", "abc")
    assert not same("(abc)", "abc")  # ASCII brackets are not in the official list


def test_f1_is_that_of_the_longest_common_run():
    assert longest_common_run(list("xabcy"), list("zabcab")) == 3
    assert longest_common_run([], list("a")) == 0
    assert f1("北京市区", "北京") == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert f1("上海", "北京") == 0.0


def cmrc_file(path, **answers):
    qas = [{"id": key, "answers": [{"text": t} for t in texts]} for key, texts in answers.items()]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"qas": qas}]}]}))
    return path


def test_the_best_reference_counts_and_an_unanswered_question_scores_zero(tmp_path):
    answers = cmrc_file(tmp_path / "dev.json", a=["北京", "上海"], b=["广州"])
    predictions = tmp_path / "predictions.json"
    predictions.write_text('{"a": "上海"}')
    wanted = {"em": 50.0, "f1": 50.0, "mean": 50.0, "questions": 2, "unanswered": 1}
    assert score(predictions, answers) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": "x",\n "b"}', "line 2: not JSON"),
        ('["x"]', 'expected {"id": "answer"'),
        ('{"a": ["x"]}', "id a: expected a text"),
        ('{"a": "x", "a": "y"}', "the key 'a' comes twice"),
        ('{"b": "x"}', "none of its 1 ids is in the answers, 'b' among them"),
        ('{"a": ' + "[" * 100_000, "predictions.json: "),
    ],
)
def test_malformed_predictions_are_refused(tmp_path, content, message):
    answers = cmrc_file(tmp_path / "dev.json", a=["北京"])
    predictions = tmp_path / "predictions.json"
    predictions.write_text(content)
    with pytest.raises(UserError, match=message):
        score(predictions, answers)


def test_an_answer_file_of_another_form_is_refused_with_its_article(tmp_path):
    answers = tmp_path / "dev.json"
    answers.write_text('{"data": [{"paragraphs": [{"context": "x"}]}]}')
    predictions = tmp_path / "predictions.json"
    predictions.write_text("{}")
    with pytest.raises(UserError, match=r"dev\.json, article 0: not of SQuAD's form"):
        score(predictions, answers)


@pytest.mark.parametrize(
    ("qa", "message"),
    [
        ({"id": "a", "answers": [{"text": None}]}, r"an answer must be a text, found null"),
        ({"id": ["a"], "answers": []}, r"an id must be a text"),
        ({"id": "a", "answers": {"text": ["x"]}}, r"not of SQuAD's form"),
        ({"id": "a"}, r"not of SQuAD's form"),
    ],
)
def test_references_and_ids_must_be_texts(tmp_path, qa, message):
    answers, predictions = tmp_path / "dev.json", tmp_path / "predictions.json"
    answers.write_text(json.dumps({"data": [{"paragraphs": [{"qas": [qa]}]}]}))
    predictions.write_text("{}")
    with pytest.raises(UserError, match=message):
        score(predictions, answers)
