"""Every form of file gives the same questions; what is wrong with a file is told with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.problems import Problems, Rules
from kexue_cli.tasks.dgcnn.question_files import read_questions
from kexue_cli.tasks.dgcnn.records import Question

TEXT = "法国核电的比例最高，法国第一"
Save = Callable[[Any], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: Any, name: str = "data.json") -> Path:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def read(path: Path, **rules: Any) -> tuple[list[Question], Problems]:
    problems = Problems()
    return list(read_questions(path, Rules(**rules), problems)), problems


def blog(id: str, question: str, *passages: tuple[str, str]) -> dict[str, Any]:
    entries = [{"passage": text, "answer": answer} for text, answer in passages]
    return {"id": id, "question": question, "passages": entries}


BLOG = blog("q1", "哪国？", (TEXT, "法国"), ("别的", ""))
CONTEST = {
    "query_id": "q1",
    "query": "哪国？",
    "answer": "法国",
    "type": "factoid",
    "passages": [
        {"passage_id": 0, "passage_text": TEXT},
        {"passage_id": 1, "passage_text": "别的"},
    ],
}
WEBQA = {
    "question": "哪国？",
    "evidences": {
        "0": {"evidence": TEXT, "answer": ["法兰西", "法国"]},
        "1": {"evidence": "别的", "answer": ["no_answer"]},
    },
}
TOKENS = {
    "q_key": "q1",
    "question_tokens": ["哪国", "？"],
    "evidences": [
        {"e_key": "0", "evidence_tokens": list(TEXT), "golden_answers": [["法", "国"]]},
        {"e_key": "1", "evidence_tokens": ["别的"], "golden_answers": [["no_answer"]]},
    ],
}


@pytest.mark.parametrize(
    "content",
    [[BLOG], json.dumps(CONTEST, ensure_ascii=False) + "\n", {"q1": WEBQA}, json.dumps(TOKENS)],
    ids=["blog", "contest", "webqa", "tokens"],
)
def test_forms_with_several_passages(save: Save, content: Any) -> None:
    (question,), problems = read(save(content))
    assert (question.id, question.text) == ("q1", "哪国？")
    assert [(p.id, p.text, p.answer) for p in question.passages] == [
        ("0", TEXT, "法国"),
        ("1", "别的", ""),
    ]
    assert "法国" in question.answers
    assert not problems.counts


def squad(answers: Any, **more: Any) -> dict[str, Any]:
    qas = [{"id": "q1", "question": "哪国？", "answers": answers, **more}]
    return {"version": "v1", "data": [{"paragraphs": [{"id": "p", "context": TEXT, "qas": qas}]}]}


def test_squad_with_references_and_offset(save: Save) -> None:
    answers = [{"text": "法国", "answer_start": 10}, {"text": "法国第一", "answer_start": 10}]
    (question,), _ = read(save(squad(answers)))
    assert question.answers == ("法国", "法国第一")
    assert question.passages[0].answer_start == 10


def test_squad_2_without_an_answer(save: Save) -> None:
    (question,), _ = read(save(squad([], is_impossible=True)))
    assert question.answers == ()
    assert question.passages[0].answer == ""


def test_cmrcs_first_form(save: Save) -> None:
    qas = [{"query_id": "q1", "query_text": "哪国？", "answers": ["法国"]}]
    (question,), _ = read(save([{"context_id": "c", "context_text": TEXT, "qas": qas}]))
    assert (question.id, question.answers, question.passages[0].id) == ("q1", ("法国",), "c")


@pytest.mark.parametrize(("given", "real"), [(9, 10), (3, 0), (99, 10)])
def test_wrong_offsets_are_found_again_and_counted(save: Save, given: int, real: int) -> None:
    (question,), problems = read(save(squad([{"text": "法国", "answer_start": given}])))
    assert question.passages[0].answer_start == real
    assert problems.counts == {"wrong_offset": 1}
    assert f"{given} → {real}" in next(problems.sentences())


def test_an_offset_below_zero_marks_no_occurrence(save: Save) -> None:
    (question,), problems = read(save(squad([{"text": "法国", "answer_start": -1}])))
    assert question.passages[0].answer_start is None
    assert problems.counts == {"wrong_offset": 1}


def test_answers_of_another_width_or_case_are_found(save: Save) -> None:
    (question,), problems = read(save([blog("1", "?", ("型号Ａ１", "a1"))]))
    assert not problems.counts
    assert question.passages[0].answer == "a1"


class TestAnswersThatAreNotInTheirPassage:
    content = (blog("q1", "?", (TEXT, "德国"), (TEXT, "")),)

    def test_are_counted_and_listed(self, save: Save) -> None:
        (question,), problems = read(save(list(self.content)))
        assert problems.counts == {"missing_answer": 1}
        assert not any(passage.answer for passage in question.passages)
        assert problems.listed[0][2:] == ("q1", "0", "德国")
        assert len(question.passages) == 2
        assert question.answers == ("德国",)

    def test_are_dropped_if_wished(self, save: Save) -> None:
        (question,), problems = read(save(list(self.content)), missing_answer="drop")
        assert [p.id for p in question.passages] == ["1"]
        assert problems.counts == {"missing_answer": 1}

    def test_stop_if_wished(self, save: Save) -> None:
        with pytest.raises(UserError, match=r"data\.json, question q1, passage 0: .*'德国'.*keep"):
            read(save(list(self.content)), missing_answer="stop")


class TestEmptyText:
    content = (
        blog("q1", "?", (" \n", ""), (TEXT, "")),
        blog("q2", "\u3000", (TEXT, "")),
        blog("q3", "?"),
    )

    def test_is_counted_and_left_out(self, save: Save) -> None:
        questions, problems = read(save(list(self.content)))
        assert [len(q.passages) for q in questions] == [1, 0, 0]
        assert problems.counts == {"empty_passage": 1, "empty_question": 1, "no_passage": 1}

    def test_stops_if_wished(self, save: Save) -> None:
        with pytest.raises(UserError, match=r"question q1, passage 0: empty passage.*empty=drop"):
            read(save(list(self.content)), empty="stop")


def test_an_id_twice_is_refused_with_both_lines(save: Save) -> None:
    lines = [json.dumps({**BLOG, "id": id}) for id in ("a", "b", "a")]
    with pytest.raises(UserError, match=r"line 3: the id 'a' is already used on line 1"):
        read(save("\n".join(lines)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": "1", "passages": []}], "'question' is missing"),
        ([{"id": "1", "question": 7, "passages": []}], '"question" must be a text, found 7'),
        ([{"id": "1", "question": "?"}], "'passages' is missing"),
        ([{"id": "1", "question": "?", "passages": [{"answer": ""}]}], "'passage' is missing"),
        ([{"id": "1", "question": "?", "passages": [], "answers": "x"}], "must be a list of texts"),
        ([{"id": "1", "question": "?", "passages": "abc"}], '"passages" must be a list'),
        ([{"id": "1", "question": "?", "passages": {"a": "b"}}], '"passages" must be a list'),
        ({"q": {"question": "?", "evidences": {"e": {"evidence": "", "answer": 7}}}}, "texts"),
        ([["id"]], "not a question of a known form"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "'context_text' is missing"),
        ({"q": {"question": "?", "evidences": {"e": {"answer": []}}}}, "'evidence' is missing"),
        ([], "holds no questions"),
        ({**BLOG, "passages": [3]}, "a passage must be an object, found 3"),
        ({**CONTEST, "passages": [None]}, "a passage must be an object, found null"),
        ({**WEBQA, "evidences": [1]}, r'"evidences" must be an object, found \[1\]'),
        ({**WEBQA, "evidences": {"e": 3}}, "an evidence must be an object, found 3"),
        ({**TOKENS, "evidences": [3]}, "an evidence must be an object, found 3"),
        ({**TOKENS, "question_tokens": 3}, "tokens must be a list of texts, found 3"),
        (
            {**TOKENS, "evidences": [{"evidence_tokens": ["甲"], "golden_answers": None}]},
            '"golden_answers" must be a list, found null',
        ),
        ({"paragraphs": 7}, '"paragraphs" must be a list, found 7'),
        ({"paragraphs": ["x"]}, 'a paragraph must be an object, found "x"'),
        ({"context": "x", "qas": [None]}, "a question must be an object, found null"),
        (
            squad({"text": ["最高"], "answer_start": []})["data"][0],
            r'"text" and "answer_start" must be equally long',
        ),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(
    save: Save, content: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(save(content))
    assert "data.json" in str(error.value)
    assert "expected" in str(error.value)


def test_a_passage_id_twice_in_a_question_is_refused(save: Save) -> None:
    passages = [{"id": "p", "passage": "甲"}, {"id": "p", "passage": "乙"}]
    with pytest.raises(UserError, match=r"line 1, question q1: two passages have the id 'p'"):
        read(save([{**BLOG, "passages": passages}]))


def test_a_null_id_is_none(save: Save) -> None:
    (first, second), _ = read(save([{**BLOG, "id": None}, {**BLOG, "id": None}]))
    assert (first.id, second.id) == ("0", "1")


def test_references_of_squads_form_may_be_columns(save: Save) -> None:
    (found,), _ = read(save(squad({"text": ["最高", "高"], "answer_start": [7, 8]})))
    assert found.answers == ("最高", "高")
    assert (found.passages[0].answer, found.passages[0].answer_start) == ("最高", 7)


@pytest.mark.parametrize(
    "content",
    [
        {**CONTEST, "answer": "fe", "passages": [{"passage_id": 0, "passage_text": "铁是ＦＥ。"}]},
        {
            "q_key": "q1",
            "question_tokens": ["铁"],
            "evidences": [{"evidence_tokens": ["铁是", "ＦＥ。"], "golden_answers": [["fe"]]}],
        },
    ],
)
def test_answers_that_are_not_marked_are_found_whatever_their_width(
    save: Save, content: Any
) -> None:
    (found,), problems = read(save([content]))
    assert found.passages[0].answer == "fe"
    assert not problems.counts


def test_an_answer_that_no_passage_holds_is_counted(save: Save) -> None:
    (found,), problems = read(save({**CONTEST, "answer": "铜"}))
    assert found.answers == ("铜",)
    assert problems.counts == {"answer_nowhere": 1}
    assert "1 questions have an answer that none of their passages" in next(problems.sentences())


def test_a_limit_stops_the_reading(save: Save) -> None:
    lines = [json.dumps({**BLOG, "id": id}) for id in range(5)]
    path = save("\n".join([*lines, "broken"]))
    assert len(list(read_questions(path, Rules(), Problems(), limit=3))) == 3


@pytest.mark.parametrize(
    ("name", "n_questions", "problems"),
    [
        ("cmrc2018/train.json", 10142, {"wrong_offset": 21}),
        ("cmrc2018/dev.json", 3219, {"wrong_offset": 3}),
        ("drcd/DRCD_dev.json", 3524, {}),
        ("dureader_robust/dev.json", 1417, {"wrong_offset": 1417}),
        ("webqa/webqa_ann_2824q.json", 2824, {"answer_nowhere": 18}),
        ("sogouqa/SogouQA_sample_21q.json", 21, {}),
    ],
)
def test_published_sets(
    data_dir: Path, name: str, n_questions: int, problems: dict[str, int]
) -> None:
    questions, found = read(data_dir / name)
    assert len(questions) == n_questions
    assert found.counts == problems
    for question in questions[::50]:
        for passage in question.passages:
            if passage.answer_start is not None:
                assert passage.text[passage.answer_start :].startswith(passage.answer)


def test_texts_and_ids_can_be_written_whatever_their_escapes(save: Save) -> None:
    passages = [{"id": "p\ud83d", "passage": "铁\ud83d是Fe", "answer": "\ud83d是"}]
    asked = {"id": "q\udc00", "question": "？\ud83d", "passages": passages}
    (found,), problems = read(save(json.dumps([asked])))
    repr(found).encode("utf-8")
    assert (found.id, found.passages[0].text, found.answers) == (
        "q\ufffd",
        "铁\ufffd是Fe",
        ("\ufffd是",),
    )
    assert not problems.counts


def test_an_empty_reference_of_squads_form_is_no_answer(save: Save) -> None:
    (found,), problems = read(save(squad([{"text": "", "answer_start": -1}])))
    assert (found.answers, found.passages[0].answer) == ((), "")
    assert not problems.counts
    both = [{"text": "", "answer_start": -1}, {"text": "最高", "answer_start": 7}]
    (found,), _ = read(save(squad(both)))
    assert (found.answers, found.passages[0].answer_start) == (("最高",), 7)


def test_an_evidence_twice_is_refused(save: Save) -> None:
    content = '{"q": {"question": "?", "evidences": {"e": {"evidence": "甲"}, "e": {}}}}'
    with pytest.raises(UserError, match=r"data\.json, line 1: .*the key 'e' comes twice"):
        read(save(content))


@pytest.mark.parametrize("start", ["Infinity", "NaN", "[]", '"x"'])
def test_an_offset_that_is_no_number_is_refused(save: Save, start: str) -> None:
    content = json.dumps(squad([{"text": "法国", "answer_start": 7070}])).replace("7070", start)
    with pytest.raises(UserError, match=r'"answer_start" must be a whole number, found '):
        read(save(content))
