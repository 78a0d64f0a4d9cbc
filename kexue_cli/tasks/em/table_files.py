"""Number tables from .csv, .csv.gz, .parquet, .npz and .npy; errors name row and column."""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.paths import cache_dir
from kexue_cli.tasks.em.csv_files import read_csv
from kexue_cli.tasks.em.rows import release_pages

NPY_MAGIC = b"\x93NUMPY"
COPY_ROWS = 50_000  # rows of a memory map that are copied in one go
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+").fullmatch
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".npz", ".npy")
FAILURES = (
    ValueError, TypeError, KeyError, OSError, EOFError, NotImplementedError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What pandas, numpy and scipy raise for files that are not what their name says."""


@dataclass
class ReadTable:
    """What one file holds: numbers (n, d) with names, and the special columns asked for."""

    values: np.ndarray
    columns: list[str]
    ids: np.ndarray
    weights: np.ndarray | None
    labels: np.ndarray | None


def read_table(data: Any, path: Path, fitted: bool = False) -> ReadTable:
    """Read `path` as the configuration node `data` says (see config.TableData).

    Args:
        fitted: label and weight may be missing.

    Raises:
        UserError: no such file or format, a missing column, or text where numbers should be.
    """
    if not path.is_file():
        raise UserError(f"data.path={path}: no such file; set data.path or KEXUE_DATA_DIR")
    match path.suffix:
        case ".csv" | ".tsv":
            return _from_frame(read_csv(path, data), data, path, fitted)
        case ".gz" if path.name.endswith((".csv.gz", ".tsv.gz")):
            return _from_frame(read_csv(path, data), data, path, fitted)
        case ".parquet":
            require("pyarrow", extra="tables")
            return _from_frame(_read(pd.read_parquet, path), data, path, fitted)
        case ".npy":
            return _from_array(_read(load_array, path), data, path)
        case ".npz":
            return _from_npz(path, data)
    raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}")


def load_array(path: Path) -> np.ndarray:
    """The array of a .npy, memory-mapped; raises one of FAILURES where it holds none."""
    with path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise ValueError("it does not begin as one")
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def _load_archive(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


def _read(reader: Any, path: Path) -> Any:
    try:
        return reader(path)
    except FAILURES as error:
        raise UserError(
            f"{path}: not a readable {path.suffix} file ({str(error).strip()})"
        ) from error


def _from_frame(frame: pd.DataFrame, data: Any, path: Path, fitted: bool) -> ReadTable:
    frame.columns = [str(name) for name in frame.columns]
    special = {
        key: _column(frame, data[key], path)
        for key in ("weight", "label", "id")
        if data[key] is not None and not (fitted and data[key] not in frame.columns)
    }
    if data.columns is None:
        names = [name for name in frame.columns if name not in special.values()]
    else:
        names = [_column(frame, str(name), path) for name in data.columns]
    if len(frame) == 0 or not names:
        raise UserError(f"{path}: {len(frame)} rows and {len(names)} columns; nothing to fit")
    values = np.column_stack([_numbers(frame[name], path) for name in names])
    _correct(values, names, data.corrections, path)
    weights = _numbers(frame[special["weight"]], path) if "weight" in special else None
    labels = frame[special["label"]].to_numpy(dtype=object) if "label" in special else None
    ids = np.arange(len(frame))
    if "id" in special:
        ids = checked_ids(frame[special["id"]].to_numpy(), data.id, path)
    return ReadTable(values, names, ids, weights, labels)


def checked_ids(ids: np.ndarray, column: str, path: Path) -> np.ndarray:
    """The ids; raises UserError where one is empty, or two are the same as text."""
    series = pd.Series(ids)
    texts = series.astype(str)
    empty = np.flatnonzero(series.isna() | (texts.str.strip() == ""))
    if len(empty):
        raise UserError(
            f"{path}: column {column!r} has no id in row {empty[0] + 1} ({len(empty)} such rows); "
            "add it, or leave out data.id: rows are numbered then"
        )
    again = np.flatnonzero(texts.duplicated())
    if len(again):
        first = int(np.flatnonzero(texts == texts[again[0]])[0])
        raise UserError(
            f"{path}: column {column!r} has the id {texts[again[0]]!r} in rows {first + 1} and "
            f"{again[0] + 1} ({len(again)} rows repeat one); every row needs its own. Correct "
            "them, or leave out data.id: rows are numbered then"
        )
    return ids


def _column(frame: pd.DataFrame, name: str, path: Path) -> str:
    """A column by its name or, where none is called so, by its number from 0."""
    if name in frame.columns:
        return name
    if name.isdigit() and int(name) < len(frame.columns):
        return str(frame.columns[int(name)])
    raise UserError(f"{path}: no column {name!r}; it has {', '.join(frame.columns)}")


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    """A column as float64; text raises UserError with its row (from 1, without the header)."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(np.isnan(numbers) & ~column.isna().to_numpy())
    if len(wrong):
        found = str(column.iloc[wrong[0]])
        comma = " (with a decimal comma, set data.decimal=comma)" if _DECIMAL_COMMA(found) else ""
        raise UserError(
            f"{path}: column {column.name!r} should hold numbers, found {found!r} in row "
            f"{wrong[0] + 1} ({len(wrong)} such rows){comma}; if it names classes, say "
            f"data.label={column.name}; else leave it out by data.columns=[…] or correct the rows"
        )
    return numbers


def _correct(values: np.ndarray, names: list[str], corrections: Any, path: Path) -> None:
    for place, value in dict(corrections).items():
        column, _, row = str(place).rpartition("@")
        if column not in names or not row.isdigit() or not 1 <= int(row) <= len(values):
            raise UserError(
                f"data.corrections: {place!r} should be column@row with a column of {names} and a "
                f"row from 1 to {len(values)} of {path}"
            )
        values[int(row) - 1, names.index(column)] = value


def _from_npz(path: Path, data: Any) -> ReadTable:
    arrays = _read(_load_archive, path)
    candidates = [name for name, array in arrays.items() if array.ndim == 2]
    if len(candidates) != 1 and "x" not in candidates:
        raise UserError(
            f"{path}: expected one two-dimensional array, or one named x; found {list(arrays)}"
        )
    values = arrays["x" if "x" in candidates else candidates[0]]
    extra = {name: array for name, array in arrays.items() if array.ndim == 1}
    return _from_array(values, data, path, extra)


def _from_array(
    values: np.ndarray, data: Any, path: Path, extra: dict[str, np.ndarray] | None = None
) -> ReadTable:
    """Columns are called by their number; weight, label and id may name one, or an npz array."""
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.dtype.kind not in "fiub" or values.size == 0:
        raise UserError(
            f"{path}: expected rows and columns of numbers, found {values.dtype} of shape "
            f"{values.shape}"
        )
    extra = extra or {}

    def column(name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        if name in extra and len(extra[name]) == len(values):
            return extra[name]
        return _copied(values[:, _number(name, values.shape[1], path)])

    special = [data[key] for key in ("weight", "label", "id")]
    numbered = {_number(n, values.shape[1], path) for n in special if n and n not in extra}
    if data.columns is not None:
        keep = [_number(str(name), values.shape[1], path) for name in data.columns]
    else:
        keep = [j for j in range(values.shape[1]) if j not in numbered]
    if not keep:
        raise UserError(f"{path}: no column is left to fit; see data.columns, weight, label and id")
    ids, weights, labels = column(data.id), column(data.weight), column(data.label)
    return ReadTable(
        chosen_columns(values, keep),
        [str(j) for j in keep],
        np.arange(len(values)) if ids is None else checked_ids(ids, data.id, path),
        weights,
        labels,
    )


def chosen_columns(values: np.ndarray, keep: list[int]) -> np.ndarray:
    """These columns: a view if they are evenly spaced, else a copy, of a memory map one on disk."""
    step = keep[1] - keep[0] if len(keep) > 1 else 1
    if step > 0 and keep == list(range(keep[0], keep[-1] + 1, step)):
        return values[:, keep[0] : keep[-1] + 1 : step]
    if not isinstance(values, np.memmap):
        return np.ascontiguousarray(values[:, keep])
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_dir()) as file:  # has no name: gone when the run ends
        copy = np.memmap(file, values.dtype, "w+", shape=(len(values), len(keep)))
    for start in range(0, len(values), COPY_ROWS):
        copy[start : start + COPY_ROWS] = values[start : start + COPY_ROWS, keep]
        release_pages(values)
        release_pages(copy)
    return copy


def _copied(column: np.ndarray) -> np.ndarray:
    """A column in memory; of a memory map without the columns around it."""
    copy = np.empty(len(column), column.dtype)
    for start in range(0, len(column), COPY_ROWS):
        copy[start : start + COPY_ROWS] = column[start : start + COPY_ROWS]
        release_pages(column)
    return copy


def _number(name: str, columns: int, path: Path) -> int:
    if not str(name).isdigit() or int(name) >= columns:
        raise UserError(f"{path}: no column {name!r}; it has the numbers 0 to {columns - 1}")
    return int(name)
