"""Submissions are checked before they are written."""

from __future__ import annotations

from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.submission import Submission


def test_the_text_is_exactly_the_contest_format() -> None:
    columns: dict[str, Any] = {"id": [5, 7], "type": ["star", "a,b"]}
    assert Submission(columns, header=False).to_text() == '5,star\n7,"a,b"\n'
    assert Submission(columns, separator="\t").to_text() == "id\ttype\n5\tstar\n7\ta,b\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected_ids": [5, 7, 9]}, "lacks 1 of 3 ids, first '9'"),
        ({"expected_ids": [5]}, "1 unknown ids, first '7'"),
        ({"allowed": {"type": {"star"}}}, "line 3: type is 'qso', not one of star"),
        ({"columns": {"id": [5, 5], "type": ["star", "star"]}}, "row 2: id '5' occurs twice"),
        ({"columns": {"id": [5], "type": []}}, "differ in length"),
    ],
)
def test_what_breaks_the_rules_is_named(changes: dict[str, Any], message: str) -> None:
    settings = {"columns": {"id": [5, 7], "type": ["star", "qso"]}, **changes}
    with pytest.raises(UserError, match=message):
        Submission(**settings).to_text()
