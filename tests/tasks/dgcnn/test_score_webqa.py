"""WebQA's score, equal to its own tool on every case of tests/golden/dgcnn_webqa.json."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage.cli import main
from kexue_cli.tasks.dgcnn.score_webqa import chunks, score, vote
from kexue_cli.tasks.dgcnn.webqa_synonyms import Lists, SynonymMatcher, plain

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "dgcnn_webqa.json").read_text(encoding="utf-8")
)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The golden lists in the form of the tool's files."""
    folder, known = tmp_path / "evaluation", Lists()
    folder.mkdir()
    named = {
        "country_and_region_names": known.countries,
        "chemical_element_names": known.elements,
        "measure_names": known.units,
        "ethnic_group_names": known.peoples,
    }
    names = [f"{key} = (\n{quoted(values)},\n)\n" for key, values in named.items()]
    synonyms = "".join(f"    [{quoted(words)}],\n" for words in GOLDEN["synonyms"])
    regions = "\n".join(f"{code}　{name[:1]}　{name[1:]}" for code, name in GOLDEN["regions"])
    (folder / "names.py").write_text("".join(names), encoding="utf-8")
    (folder / "synsets.py").write_text(f"synsets=[\n{synonyms}]\n", encoding="utf-8")
    (folder / "state_names.py").write_text(f"u'''\n{regions}\n'''\n", encoding="utf-8")
    return folder


def quoted(words: list[str]) -> str:
    return ", ".join(f"ur'{word}'" for word in words)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "test.json.gz"
    lines = [json.dumps(question) for question in GOLDEN["questions"]]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_the_same_pairs_are_synonyms_as_in_the_tool(lists: Path) -> None:
    matcher = SynonymMatcher(Lists.of_tool(lists))
    wrong = [
        (reference, answer)
        for reference, answer, same in GOLDEN["pairs"]
        if matcher.same(reference, answer) != bool(same)
    ]
    assert not wrong
    assert 40 < sum(same for _, _, same in GOLDEN["pairs"]) < len(GOLDEN["pairs"])


def test_labels_score_as_with_the_tool(lists: Path, asked: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{label};0.5 0.5\n" for label in GOLDEN["labels"]))
    found = score(labels, asked, lists)
    assert found.pop("questions") == len(GOLDEN["questions"])
    assert {key: round(value, 6) for key, value in found.items()} == GOLDEN["expected"]


def test_without_the_tools_lists_its_rules_still_hold() -> None:
    same = SynonymMatcher(Lists()).same
    assert same("唐", "唐朝")
    assert same("12", "第12个")
    assert same("《水浒》", "水浒")
    assert same("北京", "北京市")
    assert same("新疆", "新疆维吾尔自治区")
    assert same("氟", "氟元素")
    assert not same("法国", "德国")
    assert not same("12", "13个")
    assert same("北大的", "北大")
    assert not same("北大", "北大的")


def passage(text: str, answer: str) -> dict[str, str]:
    return {"passage": text, "answer": answer}


BLOG = [
    {"id": "a", "question": "?", "passages": [passage("甲乙", "甲"), passage("丙", "")]},
    {"id": "b", "question": "?", "passages": [passage("唐", "唐")]},
]


@pytest.fixture
def blog(tmp_path: Path) -> Path:
    (tmp_path / "blog.json").write_text(json.dumps(BLOG))
    return tmp_path / "blog.json"


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "given"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize("content", ["\ufeffa\t甲\r\nb\t唐朝\r\n", {"a": "甲", "b": ["唐朝"]}])
def test_one_answer_for_each_question(tmp_path: Path, blog: Path, content: Any) -> None:
    found = score(written(tmp_path, content), blog)
    assert found["strict_f1"] == 0.5
    assert found["fuzzy_f1"] == 1.0
    assert "evidence_strict_f1" not in found


def test_answers_of_evidences_are_scored_and_vote(tmp_path: Path, blog: Path) -> None:
    found = score(written(tmp_path, {"a": {"0": "甲", "1": ["乙", "no_result"]}, "b": {}}), blog)
    # Right of three answers to three evidences: 甲, and that a's second one holds none.
    assert found["evidence_strict_precision"] == pytest.approx(2 / 3)
    assert found["evidence_strict_recall"] == pytest.approx(2 / 3)
    # No answer comes twice, so that the first evidence's is the question's.
    assert found["strict_precision"] == 1.0
    assert found["strict_recall"] == 0.5


def test_every_reference_of_an_evidence_counts(tmp_path: Path) -> None:
    evidence = {"evidence": "首都是北京市。", "answer": ["北京", "北京市"]}
    content = {"q": {"question": "?", "evidences": {"e": evidence}}}
    (tmp_path / "webqa.json").write_text(json.dumps(content))
    found = score(written(tmp_path, {"q": {"e": "北京市"}}), tmp_path / "webqa.json")
    assert found["evidence_strict_f1"] == 1.0


def test_an_id_twice_in_the_answers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blog.json").write_text(json.dumps([BLOG[0], BLOG[0]]))
    with pytest.raises(UserError, match=r"the question 'a' comes 2 times"):
        score(written(tmp_path, {"a": "甲"}), tmp_path / "blog.json")


def test_no_answer_beside_other_references_stays_one(tmp_path: Path) -> None:
    def evidence(key: str, *answers: str) -> dict[str, Any]:
        golden = [[answer] for answer in answers]
        return {"e_key": key, "evidence_tokens": ["甲"], "golden_answers": golden}

    both = [evidence("e", "no_answer", "甲"), evidence("f", "no_answer")]
    apart = [evidence("e", "甲"), evidence("f", "no_answer")]
    none, empty = [evidence("e", "no_answer")], [evidence("e")]
    for evidences, right in ((both, 1.0), (apart, 0.0), (none, 1.0), (empty, 0.0)):
        line = {"q_key": "q", "question_tokens": ["?"], "evidences": evidences}
        (tmp_path / "tokens.json").write_text(json.dumps(line))
        found = score(written(tmp_path, {"q": "no_result"}), tmp_path / "tokens.json")
        assert found["strict_recall"] == right


def test_case_and_white_space_are_those_of_python_2() -> None:
    assert plain("İzmir") == "izmir"
    assert plain("ΟΔΟΣ") != "οδος"
    assert plain("甲\u180e 乙\u3000") == "甲乙"


def test_votes() -> None:
    assert vote([["甲"], ["乙"], ["甲 "]]) == ["甲"]
    assert vote([[], ["乙", "丙"], ["甲"]]) == ["乙", "丙"]
    assert vote([["甲", "乙"], ["乙", "甲"]]) == ["甲", "乙"]
    assert vote([[], []]) == []


def test_chunks_of_labels() -> None:
    assert chunks(list("甲乙丙丁戊己"), "BIBOII") == ["甲乙", "丙", "戊己"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\t甲\nb\t唐\t朝\n", r"line 2: expected 2 fields, id<TAB>answer, found 3"),
        ("a\t甲\nc\t唐\n", r"1 ids are not in the answers, 'c' among them"),
        ("a\t甲\na\t唐\n", r"line 2: the id 'a' comes twice"),
        ('{"a": {"7": "甲"}}', r"question a: the evidence '7' is not in the answers"),
        ('{"a": "甲", "a": "乙"}', r"the key 'a' comes twice"),
        ('{"a": 7}', r"id a: expected an answer"),
        ('{"a": ', r"line 1: not JSON"),
        ("7;0.1\n", r"line 1: expected a label below 4"),
        ("0;0.1\n", r"1 labels for 0 tokens"),
    ],
)
def test_answers_of_another_form_are_refused(
    tmp_path: Path, blog: Path, content: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        score(written(tmp_path, content), blog)


def test_a_folder_without_the_lists_is_refused(tmp_path: Path, blog: Path) -> None:
    with pytest.raises(UserError, match=r"names\.py: cannot be read.*evaluation"):
        score(written(tmp_path, "a\t甲\n"), blog, tmp_path)


def test_lists_in_another_encoding_are_refused(tmp_path: Path, blog: Path) -> None:
    (tmp_path / "names.py").write_bytes("甲".encode("gb18030"))
    with pytest.raises(UserError, match=r"names\.py, line 1: not UTF-8"):
        score(written(tmp_path, "a\t甲\n"), blog, tmp_path)


def test_the_command_prints_json(
    tmp_path: Path, blog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = written(tmp_path, "a\t甲\nb\t唐\n")
    assert main(["score", "webqa", str(given), "--answers", str(blog), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["strict_f1"] == 1.0
    assert "--lists" in printed.err  # the fuzzy score is not the tool's without them


@pytest.mark.parametrize("rest", [{}, {"b": ""}, {"b": {}}, {"b": []}])
def test_evidences_of_a_question_without_an_entry_are_wanted(
    tmp_path: Path, blog: Path, rest: dict[str, Any]
) -> None:
    found = score(written(tmp_path, {"a": {"0": "甲", "1": "no_result"}, **rest}), blog)
    assert found["evidence_strict_precision"] == 1.0
    assert found["evidence_strict_recall"] == pytest.approx(2 / 3)
    assert found["strict_recall"] == 0.5


def test_damaged_gzip_cannot_be_read(tmp_path: Path, blog: Path) -> None:
    path = tmp_path / "given.gz"
    for content in (
        gzip.compress(b"a\tx\n" * 99)[:-9],
        b"\x1f\x8b\x08" + b"\0" * 6 + b"\3" + b"\xff" * 30,
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"given\.gz: cannot be read"):
            score(path, blog)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (3, "an evidence must be an object, found 3"),
        ({"evidence_tokens": ["甲"], "golden_answers": None}, "must be a list, found null"),
        ({"golden_answers": []}, "'evidence_tokens' is missing"),
        ({"evidence_tokens": [1], "golden_answers": []}, "tokens must be a list of texts"),
    ],
)
def test_evidences_of_another_type_are_told_in_words(
    tmp_path: Path, evidence: Any, message: str
) -> None:
    line = {"q_key": "q", "question_tokens": ["?"], "evidences": [evidence]}
    (tmp_path / "tokens.json").write_text(json.dumps(line))
    with pytest.raises(UserError, match=rf"tokens\.json, line 1: .*{message}"):
        score(written(tmp_path, {}), tmp_path / "tokens.json")
