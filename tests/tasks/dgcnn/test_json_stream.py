"""Items come as from the standard library, whatever the size of the window; errors name lines."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn import json_stream

ITEMS: list[Any] = [{"a": '名"字\\', "b": [1, 2.5e-3, None]}, 12345678, "𝄞\u2028", [], {}, True]


@pytest.fixture(params=[1, 3, 7, 1 << 20])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", request.param)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"ensure_ascii": False}])
def test_an_array_item_by_item(tmp_path: Path, style: dict[str, Any]) -> None:
    path = written(tmp_path / "a.json", json.dumps(ITEMS, **style))
    assert [item.value for item in json_stream.items(path)] == ITEMS
    path = written(tmp_path / "b.json", json.dumps({"version": 1, "data": ITEMS}, **style))
    assert [i.value for i in json_stream.items(path)] == [1, *ITEMS]
    path = written(tmp_path / "c.json", json.dumps({"k": {"x": 1}, "l": {}}, **style))
    assert [(i.key, i.value) for i in json_stream.items(path)] == [("k", {"x": 1}), ("l", {})]


def test_json_lines_also_with_a_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '\ufeff{"id": 1, "q": "?"}\r\n\r\n{"id": 2}\r\n')
    found = list(json_stream.items(path))
    assert [(i.line, i.value["id"]) for i in found] == [(1, 1), (3, 2)]


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"a": 1},\n{"a": }\n]', 3),
        ('[\n{"a": 1}\n{"a": 2}\n]', 3),
        ('[\n{"a": 1},\n{"a": "never ends\n', 3),
        ('[\n{"a": 1},\n', 3),
        ("question,answer\n", 1),
        ("", 1),
        ('{"data": [\n1,\n2,,\n]}', 3),
        ("[1]\n[2]\n", 2),
        ('{"a": {},\n"b": {}}\nx', 3),
        ("[\n" + "[" * 100_000, 2),
        ("[\n" + "7" * 5_000 + "]", 2),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = written(tmp_path / "bad.json", text)
    with pytest.raises(UserError, match=rf"bad\.json, line {line}: not JSON"):
        list(json_stream.items(path))


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "gbk.json"
    path.write_bytes('[\n{"id": 1,\n"question": "白云山"}]'.encode("gb18030"))
    with pytest.raises(UserError, match=r"gbk\.json, line 3: not UTF-8"):
        list(json_stream.items(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        list(json_stream.items(tmp_path / "none.json"))


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("indent", [None, 1])
def test_objects_one_after_the_other_whatever_their_length(
    tmp_path: Path, indent: int | None
) -> None:
    records = [{"id": i, "question": "?" * 50, "passages": ["x"], "more": {}} for i in range(3)]
    for n in (1, 3):
        lines = [json.dumps(record, indent=indent) for record in records[:n]]
        path = written(tmp_path / "a.jsonl", "\n".join(lines))
        assert [item.value for item in json_stream.items(path)] == records[:n]


def test_a_first_line_longer_than_the_window(tmp_path: Path) -> None:
    lines = [{"id": i, "question": "?" * (json_stream.CHUNK + 9)} for i in range(2)]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert [(i.line, i.value["id"]) for i in json_stream.items(path)] == [(1, 0), (2, 1)]


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("indent", [None, 1])
def test_objects_by_key_also_with_other_values_beside_them(
    tmp_path: Path, indent: int | None
) -> None:
    table = {"version": 1, "k": {"question": "?"}, "n": None, "l": {"question": "!"}}
    path = written(tmp_path / "a.json", json.dumps(table, indent=indent))
    assert {item.key: item.value for item in json_stream.items(path)} == table


@pytest.mark.parametrize("size", [1, 3, json_stream.CHUNK])
def test_objects_beside_data_are_skipped_unless_they_are_questions(
    tmp_path: Path, size: int
) -> None:
    table = {"meta": {"author": "x" * size}, "data": [7], "also": {}, "q": {"question": "?"}}
    path = written(tmp_path / "a.json", json.dumps(table))
    found = [item.value for item in json_stream.items(path)]
    assert found[-2:] == [7, {"question": "?"}]
    assert size == json_stream.CHUNK or len(found) == 2


@pytest.mark.usefixtures("window")
def test_surrogates_without_their_other_half_are_replaced(tmp_path: Path) -> None:
    text = r'[{"a\uD83D": ["b\uDE00c"]}, "\ud83d\ude00", "\\ud83d"]'
    path = written(tmp_path / "a.json", text)
    found = [item.value for item in json_stream.items(path)]
    assert found == [{"a\ufffd": ["b\ufffdc"]}, "😀", "\\ud83d"]


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("text", ['{"x": {},\n"q": {"e": 1, "e": 2}}', '[0,\n{"e": 1, "e": 2}]'])
def test_a_key_twice_in_an_object_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "a.json", text)
    with pytest.raises(UserError, match=r"a\.json, line 2: .*the key 'e' comes twice"):
        list(json_stream.items(path))


@pytest.mark.parametrize("text", ['{"id": 1, "id": 2}', '{"id": 1,\n"id": 2}'])
def test_a_key_twice_in_the_first_line_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"line 1: the key 'id' comes twice"):
        list(json_stream.items(written(tmp_path / "a.json", text)))


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"[1, 2, 3]" * 9)[:-12],
        gzip.compress('["名"]'.encode("gb18030") * 9)[:-12],
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 30,
        b"[1]",
    ],
    ids=["cut off", "cut off and not UTF-8", "not deflated", "not gzip"],
)
def test_a_damaged_gzip_file_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json\.gz: cannot be read \(.+\)"):
        list(json_stream.items(tmp_path / "a.json.gz"))
