"""Class names and ids as files give them, and the numbers the network learns."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.spectra import Integers


def encode(
    names: NDArray[Any], classes: Sequence[str], where: str, ids: NDArray[np.str_] | None = None
) -> Integers:
    """Label numbers (n,) int64 of class names (n,), in the order of `classes`.

    A name that differs from a class in capitals alone is that class.

    Raises:
        UserError: a name that is not among the classes; the message names it, its first
            spectrum and the nearest class.
    """
    found, inverse = np.unique(names.astype(str), return_inverse=True)
    number = {name: label for label, name in enumerate(classes)}
    folded = {name.lower(): label for name, label in number.items()}
    if len(folded) == len(number):
        number |= {name: folded[name.lower()] for name in found.tolist() if name.lower() in folded}
    for position, name in enumerate(found.tolist()):
        if name in number:
            continue
        row = int(np.flatnonzero(inverse == position)[0])
        first = f" (first at {ids[row] if ids is not None else f'row {row}'})"
        near = difflib.get_close_matches(name.lower(), classes, n=1)
        advice = f"Did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{where}: unknown class {name!r}{first}; the classes are {', '.join(classes)}. "
            f"{advice}Correct the file or set data.classes."
        )
    return np.array([number[name] for name in found.tolist()], dtype=np.int64)[inverse]


def class_order(names: NDArray[Any]) -> tuple[str, ...]:
    """The classes found among names (n,): sorted, as numbers where all are whole numbers."""
    found = [str(name) for name in np.unique(names.astype(str))]
    if all(name.lstrip("-").isdigit() for name in found):
        found.sort(key=int)
    return tuple(found)


def require_unique(ids: NDArray[np.str_], where: str) -> None:
    """Raise UserError if an id occurs twice."""
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = unique[counts > 1]
        raise UserError(
            f"{where}: {len(twice)} ids occur more than once: {some(twice)}. Each spectrum needs "
            "an id of its own."
        )


def some(names: Sequence[Any] | NDArray[Any], n: int = 5) -> str:
    """The first few of many names, for a message."""
    return ", ".join(str(name) for name in names[:n]) + (", …" if len(names) > n else "")


def read_index(path: Path, needs_type: bool) -> tuple[NDArray[np.str_], NDArray[np.str_] | None]:
    """Ids and class names (None without that column) of a CSV `id,type`.

    Raises:
        UserError: no such file, other column names, an empty cell, an id that occurs twice.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path}: no such index file. It is a CSV with the columns id,type.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a readable CSV with the columns id,type: {error}") from error
    expected = ["id", "type"] if needs_type else ["id"]
    if missing := [name for name in expected if name not in table.columns]:
        raise UserError(
            f"{path}: expected the columns {','.join(expected)} in the first row, found "
            f"{some([repr(name) for name in table.columns])}; {missing[0]!r} is missing."
        )
    table = table.apply(lambda column: column.str.strip())
    empty = (table[[name for name in ("id", "type") if name in table.columns]] == "").any(axis=1)
    if empty.any():
        raise UserError(f"{path}: line {int(empty.idxmax()) + 2} has an empty cell.")
    ids = table["id"].to_numpy(dtype=str)
    require_unique(ids, str(path))
    types = table["type"].to_numpy(dtype=str) if "type" in table.columns else None
    return ids, types
