"""Items come as from the standard library, whatever the size of the window; errors name lines."""

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
