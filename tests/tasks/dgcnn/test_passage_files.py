"""A passage is a line of the file as editors count them."""

from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.passage_files import read_passages


def test_only_ends_of_lines_part_passages(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    text = "甲\u2028乙\x85丙\f丁\v戊\x1c己\n\n庚\r\n辛\r壬"
    path.write_text(text, encoding="utf-8", newline="")
    whole, *others = read_passages(path).items()
    assert whole == (1, "甲\u2028乙\x85丙\f丁\v戊\x1c己")
    assert others == [(3, "庚"), (4, "辛"), (5, "壬")]


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(" \n\n")
    with pytest.raises(UserError, match=r"p\.txt: holds no text; expected one passage to a line"):
        read_passages(tmp_path / "p.txt")
