"""Rows as an aligned table, CSV, JSON or Markdown. No packages, so that 10,000 rows are quick."""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import unicodedata
from collections.abc import Sequence
from typing import Any

FORMATS = ("table", "csv", "json", "markdown")
Row = dict[str, Any]


def add_format_argument(parser: argparse.ArgumentParser) -> None:
    """The option `--format` of every command that prints rows."""
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="how to print (default: table)"
    )


def render(rows: Sequence[Row], columns: Sequence[str] | None = None, format: str = "table") -> str:
    """Rows as text; without `columns`, every key that occurs, in order of appearance."""
    names = (
        list(columns)
        if columns is not None
        else list(dict.fromkeys(k for row in rows for k in row))
    )
    if format == "json":
        return json.dumps(
            [{k: row.get(k) for k in names} for row in rows], indent=2, ensure_ascii=False
        )
    if format == "csv":
        return _csv(rows, names)
    cells = [[shown(row.get(name)) for name in names] for row in rows]
    if format == "markdown":
        lines = [names, ["---"] * len(names), *cells]
        return "\n".join("| " + " | ".join(_escaped(line)) + " |" for line in lines)
    return _aligned(names, cells)


def shown(value: Any) -> str:
    """A value for eyes: five significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return str(value)


def mean_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation (n − 1); a single value stands alone."""
    if not values:
        return ""
    if len(values) == 1:
        return shown(float(values[0]))
    return f"{shown(statistics.fmean(values))} ± {statistics.stdev(values):.2g}"


def duration(seconds: float | None) -> str:
    """Seconds as 12 s, 3:05 or 2:03:05."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def width(text: str) -> int:
    """Columns a text takes in a terminal: Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if (v := row.get(k)) is None else v for k in names] for row in rows])
    return out.getvalue().rstrip("\n")


def _escaped(line: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in line]


def _aligned(names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(width, column)) for column in zip(names, *cells, strict=True)]
    rule = ["─" * w for w in widths]
    lines = [names, rule, *cells]
    return "\n".join(
        "  ".join(c + " " * (w - width(c)) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
