from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from tests.tasks.em.test_data import table


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a;b\n1;2\n3;4\n", "semicolon"),
        ("a;b\n1,5;2,5\n3,1;4,2\n", "semicolon"),
        ("a\tb\n1\t2\n", "tab"),
        ("a b\n1 2\n", "space"),
    ],
)
def test_another_separator_is_hinted_at(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(UserError, match=f"t.csv: one column .* set data.separator={word}"):
        table(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a;b\n1,5;2\n3;4\n", {"separator": "semicolon", "decimal": "comma"}),
        ("a|b\n1.5|2\n3|4\n", {"separator": "|"}),
        ("\ufeffa,b\n1.5,2\n3,4\n", {}),
    ],
)
def test_separator_and_decimal_comma(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    found = table(written(tmp_path, text), **options)
    assert found.columns == ["a", "b"]
    assert found.values.tolist() == [[1.5, 2.0], [3.0, 4.0]]


def test_a_decimal_comma_is_hinted_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'1,5' in row 1.*set data.decimal=comma"):
        table(written(tmp_path, "a;b\n1,5;2\n3;4\n"), separator="semicolon")


def test_a_first_line_of_numbers_is_a_row(tmp_path: Path) -> None:
    found = table(written(tmp_path, "1.5,2\n3,4\n"))
    assert (found.columns, found.values.tolist()) == (["0", "1"], [[1.5, 2.0], [3.0, 4.0]])
    assert table(written(tmp_path, "0,1\n3,4\n")).values.tolist() == [[3.0, 4.0]]  # pandas' names


def test_one_column_whose_name_has_a_space(tmp_path: Path) -> None:
    assert table(written(tmp_path, "sepal length\n1\n2\n")).columns == ["sepal length"]


def test_rows_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more cells than the header"):
        table(written(tmp_path, "a,b\nx,1,2\ny,3,4\n"))


def test_columns_go_by_name_or_by_number(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b,c\n1,2,5\n3,4,6\n")
    assert table(path, columns=["2", "a"]).columns == ["c", "a"]
    assert table(path, label="1").columns == ["a", "c"]
    with pytest.raises(UserError, match="no column '3'; it has a, b, c"):
        table(path, columns=["3"])


def test_text_that_may_be_classes_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'x' in row 2.*data.label=b"):
        table(written(tmp_path, "a,b\n1,3\n2,x\n"))
