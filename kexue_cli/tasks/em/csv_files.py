"""Tables of text: separator, header and decimal comma; mistakes in them are named, not guessed."""

from __future__ import annotations

import csv
import gzip
import warnings
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.config_data import SEPARATORS


def read_csv(path: Path, data: Any) -> pd.DataFrame:
    """The table in `path`; a first line of numbers is a row, and columns are called by number then.

    Args:
        data: configuration node with `separator` and `decimal`.

    Raises:
        UserError: the file is not readable, seems to have another separator, or rows have more
            cells than the header has names.
    """
    separator = data.separator or ("tab" if ".tsv" in path.suffixes[-2:] else "comma")
    separator = SEPARATORS.get(separator, separator)
    decimal = SEPARATORS.get(data.decimal, data.decimal)
    try:
        opened: Any = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = [line.rstrip("\r\n") for line in islice((s for s in file if s.strip()), 2)]
        _check_separator(lines, separator, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                decimal=decimal,
                header=0 if _has_header(lines, separator, decimal) else None,
                index_col=False,
                encoding="utf-8-sig",
            )
    except pd.errors.ParserWarning as error:
        raise UserError(
            f"{path}: rows have more cells than the header has names; name every column, a column "
            "of row names, too"
        ) from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: not a readable {path.suffix} file ({str(error).strip()})"
        ) from error
    return frame


def _check_separator(lines: list[str], separator: str, path: Path) -> None:
    """One column where both lines hold another usual separator is a mistake."""
    if len(lines) < 2 or len(_cells(lines[0], separator)) > 1:
        return
    for word, other in SEPARATORS.items():
        if other != separator and all(other in line for line in lines):
            raise UserError(
                f"{path}: one column with the separator {separator!r}, and its first lines are "
                f"{lines[0][:40]!r} and {lines[1][:40]!r}; set data.separator={word}"
            )


def _has_header(lines: list[str], separator: str, decimal: str) -> bool:
    cells = [cell.replace(decimal, ".") for cell in _cells(lines[0] if lines else "", separator)]
    numbered = cells == [str(number) for number in range(len(cells))]  # pandas' own names
    return numbered or not all(is_number(cell) for cell in cells)


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def is_number(text: str) -> bool:
    """Whether Python reads it as one; nan and inf count."""
    try:
        float(text)
    except ValueError:
        return False
    return True
