"""A submission: a table with a fixed format, checked before it is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kexue_cli.errors import UserError


@dataclass
class Submission:
    """Columns of equal length and how they are written.

    Attributes:
        columns: name → values; the first column is the id.
        header: whether the names stand in the first line.
        separator: between two values of a line.
        expected_ids: the ids which must each occur exactly once, if known.
        allowed: column name → the values it may hold, if known.
        quoted: whether values that hold the separator or a quotation mark are put in quotes; if
            not, separators and line breaks in values become blanks.
    """

    columns: dict[str, Sequence[Any]]
    header: bool = True
    separator: str = ","
    expected_ids: Iterable[Any] | None = None
    allowed: dict[str, set[Any]] | None = None
    quoted: bool = True

    def to_text(self) -> str:
        """The checked file content.

        Raises:
            UserError: columns of different length, an id missing, unknown or twice, a value that is
                not allowed; the line is named.
        """
        self.check()
        if not self.quoted:
            return self._unquoted()
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.separator, lineterminator="\n")
        if self.header:
            writer.writerow(self.columns)
        writer.writerows(zip(*self.columns.values(), strict=True))
        return out.getvalue()

    def _unquoted(self) -> str:
        blanks = str.maketrans(dict.fromkeys((self.separator, "\n", "\r"), " "))
        rows = list(zip(*self.columns.values(), strict=True))
        if self.header:
            rows.insert(0, tuple(self.columns))
        lines = [self.separator.join(str(value).translate(blanks) for value in row) for row in rows]
        return "".join(f"{line}\n" for line in lines)

    def rules(self) -> dict[str, Any]:
        """What a file of this kind must fulfil, for submission_rules.json."""
        allowed = {name: sorted(map(str, values)) for name, values in (self.allowed or {}).items()}
        return {
            "columns": list(self.columns),
            "header": self.header,
            "separator": self.separator,
            "allowed": allowed,
            "ids": [str(i) for i in next(iter(self.columns.values()))],
        }

    def check(self) -> None:
        """Raise UserError where the table breaks its own rules."""
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"submission columns differ in length: {lengths}")
        check_ids(next(iter(self.columns.values())), self.expected_ids)
        for name, allowed in (self.allowed or {}).items():
            for line, value in enumerate(self.columns[name], start=1 + self.header):
                if value not in allowed:
                    names = ", ".join(sorted(map(str, allowed)))
                    raise UserError(
                        f"submission line {line}: {name} is {value!r}, not one of {names}"
                    )


def check_ids(ids: Sequence[Any], expected: Iterable[Any] | None) -> None:
    """Raise UserError unless every id occurs once and, if `expected` is given, they are those."""
    seen: set[str] = set()
    for row, identifier in enumerate(map(str, ids), start=1):
        if identifier in seen:
            raise UserError(f"submission row {row}: id {identifier!r} occurs twice")
        seen.add(identifier)
    if expected is None:
        return
    wanted = set(map(str, expected))
    missing, unknown = sorted(wanted - seen), sorted(seen - wanted)
    if missing:
        raise UserError(
            f"submission lacks {len(missing)} of {len(wanted)} ids, first {missing[0]!r}"
        )
    if unknown:
        raise UserError(f"submission has {len(unknown)} unknown ids, first {unknown[0]!r}")
