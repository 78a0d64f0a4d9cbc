"""The wide tables of data=sequences: a row per spectrum, a column per point, as .csv or .parquet.

Rows are counted from 0 in messages, as the ids of a set without ids are.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.lamost.labels import some
from kexue_cli.tasks.lamost.normalise import to_float32

TABLE_FLUX_PREFIX = "FE"  # FE0 … FE2599, the BAAI contest's columns
CSV_ROWS_PER_CHUNK = 2048
MISSING = ("", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "null", "NULL", "None")  # cells of flux
UNREADABLE_CSV = (ValueError, OSError, EOFError, zlib.error)  # pandas' own are ValueErrors

Columns = Mapping[str, NDArray[Any]]


def open_csv(path: Path, cfg: Any) -> tuple[Columns, NDArray[np.float32]]:
    """All columns but the flux, as text, and the flux (n, length).

    Raises:
        UserError: not a table, no columns of flux, a cell of them that is no number or too large.
    """
    import pandas as pd

    others, flux = [], []
    try:
        header = list(pd.read_csv(path, nrows=0).columns)
    except UNREADABLE_CSV as error:
        raise UserError(f"{path}: not a table of numbers: {error}") from error
    flux_columns = _flux_columns(header, cfg, path)
    try:
        for chunk in _chunks(path, header, flux_columns, np.float64):
            named = _cells(path, chunk.index.start, flux_columns)
            flux.append(to_float32(chunk[flux_columns].to_numpy(), named))
            others.append(chunk.drop(columns=flux_columns))
    except UNREADABLE_CSV as error:
        place = _first_text(path, header, flux_columns, str(error))
        raise UserError(f"{path}: not a table of numbers: {error}{place}") from error
    rest = pd.concat(others)
    return {name: rest[name].to_numpy() for name in rest.columns}, np.concatenate(flux)


def open_parquet(path: Path, cfg: Any) -> tuple[Columns, NDArray[np.float32]]:
    """All columns but the flux, and the flux (n, length).

    Raises:
        UserError: a damaged file, no columns of flux, one that holds no numbers or too large ones.
    """
    parquet = require("pyarrow.parquet", extra="tables")
    try:
        return _parquet_columns(parquet.ParquetFile(path), cfg, path)
    except (OSError, ValueError) as error:  # pyarrow's errors are one or the other
        raise UserError(f"{path}: not a readable parquet file: {error}") from error


def _parquet_columns(file: Any, cfg: Any, path: Path) -> tuple[Columns, NDArray[np.float32]]:
    header = file.schema_arrow.names
    flux_columns = _flux_columns(header, cfg, path)
    kinds = {name: str(file.schema_arrow.field(name).type) for name in flux_columns}
    for name, kind in kinds.items():
        if not kind.startswith(("int", "uint", "float", "double", "halffloat")):
            raise UserError(f"{path}: column {name} must hold numbers, found {kind}.")
    flux = np.empty((file.metadata.num_rows, len(flux_columns)), dtype=np.float32)
    start = 0
    for batch in file.iter_batches(CSV_ROWS_PER_CHUNK, columns=flux_columns):
        for point, name in enumerate(flux_columns):
            values = batch.column(name).to_numpy(zero_copy_only=False)
            named = _cells(path, start, [name])
            flux[start : start + batch.num_rows, point] = to_float32(values, named)
        start += batch.num_rows
    rest = file.read(columns=[name for name in header if name not in set(flux_columns)])
    return {name: rest[name].to_pandas().to_numpy() for name in rest.column_names}, flux


def _chunks(path: Path, header: list[str], flux_columns: list[str], kind: Any) -> Iterator[Any]:
    """Frames of some rows each, so that the table never stands in memory twice.

    Flux is of type `kind`; everything else is text, in which NA and the like are names.

    Raises:
        ValueError: what pandas cannot read, or rows that are longer than the header.
    """
    import pandas as pd

    frames = pd.read_csv(
        path,
        dtype=dict.fromkeys(header, str) | dict.fromkeys(flux_columns, kind),
        chunksize=CSV_ROWS_PER_CHUNK,
        keep_default_na=False,
        na_values=dict.fromkeys(flux_columns, MISSING),
        index_col=False,  # else long rows lose their first cells to the index
    )
    with frames, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield from frames
        except pd.errors.ParserWarning as error:
            raise ValueError("its rows have more cells than its header") from error


def _cells(path: Path, first: int, columns: list[str]) -> Callable[..., str]:
    """Names the cell of a row after `first` and a column."""
    return lambda row, column=0: f"{path}: {columns[column]} in row {first + row}"


def _first_text(path: Path, header: list[str], flux_columns: list[str], said: str) -> str:
    """Where the first cell of the flux is that is no number; empty if nothing is to be added."""
    import pandas as pd

    try:
        for chunk in _chunks(path, header, flux_columns, str):
            cells = chunk[flux_columns]
            numbers = cells.apply(pd.to_numeric, errors="coerce")
            text = (numbers.isna() & cells.notna()).to_numpy()
            if text.any():
                row, column = np.unravel_index(int(text.argmax()), text.shape)
                return f" (column {flux_columns[column]} in row {chunk.index[row]})"
    except UNREADABLE_CSV as error:
        return "" if str(error) == said else f" ({error})"
    return ""


def _flux_columns(header: list[str], cfg: Any, path: Path) -> list[str]:
    """The columns of the spectrum, in the order of their numbers."""
    prefix = TABLE_FLUX_PREFIX if cfg.flux_key is None else cfg.flux_key
    numbered = [name for name in header if re.fullmatch(re.escape(prefix) + r"\d+", str(name))]
    if not numbered:
        raise UserError(
            f"{path}: no columns {prefix}0, {prefix}1, …; it has {some(header, 8)}. "
            "Name what stands before the number by data.flux_key."
        )
    return sorted(numbered, key=lambda name: int(name[len(prefix) :]))
