"""The SogouQA score equals the contest's own tool to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage.cli import main
from kexue_cli.tasks.dgcnn import score_sogouqa
from kexue_cli.tasks.dgcnn.config import Scorer
from kexue_cli.tasks.dgcnn.score_sogouqa import Accepted, Normaliser, best_f1, is_right, score
from kexue_cli.tasks.dgcnn.scoring import one

NORMALISE = Normaliser()


def right(answer: str | bytes, standard: str, *others: str) -> bool:
    accepted = frozenset(other.encode() for other in (others or (standard,)))
    given = answer if isinstance(answer, bytes) else answer.encode()
    return is_right(given, Accepted(standard.encode(), accepted), NORMALISE)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    answers = tmp_path / "answers"
    answers.write_text(
        "1\t中国 美国\t中国 美国|中美\n2\t战国时期\t战国|战国时期\n", encoding="utf-8"
    )
    return tmp_path / "submission.txt", answers


@pytest.mark.parametrize("case", ["bad_utf8", "subset_dup", "mixed_8000"])
def test_given_submissions_score_as_with_the_original_to_the_last_bit(data_dir, case):
    folder = data_dir / "sogouqa_eval"
    if not folder.is_dir():
        pytest.skip("no sogouqa_eval")
    wanted = json.loads((folder / "expected.json").read_text())["results"][case]
    found = score(folder / "cases" / f"{case}.txt", folder / "qid_answer_expand")
    for key in ("accuracy", "f1", "mean"):
        assert found[key] == wanted[key]
    assert found["lines"] == wanted["lines"]


@pytest.mark.parametrize("case", ["err_three_fields", "err_unknown_qid"])
def test_what_the_original_refuses_is_refused_with_its_line(data_dir, case):
    folder = data_dir / "sogouqa_eval"
    if not folder.is_dir():
        pytest.skip("no sogouqa_eval")
    with pytest.raises(UserError, match=f"{case}.txt, line 2: "):
        score(folder / "cases" / f"{case}.txt", folder / "qid_answer_expand")


def test_the_built_in_punctuation_is_the_contests(data_dir):
    path = data_dir / "sogouqa_eval" / "punctuation"
    if not path.is_file():
        pytest.skip("no sogouqa_eval")
    assert score_sogouqa.read_punctuation(path) == score_sogouqa.PUNCTUATION


def test_width_ascii_case_punctuation_and_blanks_do_not_count():
    assert right("《ＡＢ－ｃ》。 1", "abC1")
    assert not right("É", "é")  # only ASCII has cases
    assert not right("a\u00a0b", "ab")  # a no-break space is not white space


def test_a_list_matches_in_any_order_but_only_the_standard_answers():
    assert right("美国、中国，中国", "中国 美国", "中国 美国")
    assert not right("美国、中国", "别的", "中国 美国")


def test_an_empty_answer_is_wrong_even_where_nothing_is_expected():
    assert not right("", "", "")
    assert right("。", "", "")  # but punctuation alone is not empty, as in the original


def test_bytes_that_are_not_utf8_are_dropped_and_surrogates_kept_as_python_2_does():
    assert right(b"\xff\xe6\x9e\x97\xe6\x9e", "林")
    assert not right(b"\xed\xa0\x80" + "林".encode(), "林")
    assert NORMALISE(b"\xed\xa0\xbd\xed\xb8\x80") == "\N{GRINNING FACE}".encode()


def test_f1_counts_repeated_characters_and_takes_the_best_answer():
    accepted = Accepted("战国时期".encode(), frozenset(["战国".encode(), "战国时期".encode()]))
    assert best_f1("战国国".encode(), accepted, NORMALISE) == pytest.approx(0.8)  # P 2/3, R 1
    assert best_f1("秦".encode(), accepted, NORMALISE) == 0.0


def test_repeated_lines_count_and_absent_questions_do_not(files):
    submission, answers = files
    submission.write_text("1\t中美\n1\t\n", encoding="utf-8")
    assert score(submission, answers) == {"accuracy": 0.5, "f1": 0.5, "mean": 0.5, "lines": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\t中美\n\n", "line 2: expected 2 fields"),
        ("1\t中美\n1 中美\n", "line 2: expected 2 fields"),
        ("\ufeff1\t中美\n", "line 1: id .* is not in"),
        ("", "empty"),
    ],
)
def test_malformed_submissions_are_refused(files, content, message):
    submission, answers = files
    submission.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        score(submission, answers)


def test_malformed_answers_are_refused_with_their_line(files):
    submission, answers = files
    submission.write_text("1\t中美\n")
    answers.write_text("1\t中国\t中国\n2\t中国\n")
    with pytest.raises(UserError, match="answers, line 2: expected 3 fields"):
        score(submission, answers)


def test_the_command_prints_the_keys_as_json_and_takes_another_punctuation_list(files, capsys):
    submission, answers = files
    submission.write_text("2\t战,国\n", encoding="utf-8")
    words = ["score", "sogouqa", str(submission), "--answers", str(answers), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    only_stop = submission.with_name("punctuation")
    only_stop.write_text(".\n")
    assert main([*words, "--punctuation", str(only_stop)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["f1"]) == (0.0, pytest.approx(0.8))


def test_the_command_tells_bad_input_in_one_line_and_prints_no_score(files, capsys):
    submission, answers = files
    submission.write_text("9\t中美\n")
    assert main(["score", "sogouqa", str(submission), "--answers", str(answers)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "line 1: id '9'" in printed.err


def test_a_run_scores_blanks_as_the_files_scorer_does():
    assert one("\xa0A", ["A"], Scorer.sogouqa) == (False, pytest.approx(2 / 3))
    assert one(" A\r", ["A"], Scorer.sogouqa) == (True, 1.0)
