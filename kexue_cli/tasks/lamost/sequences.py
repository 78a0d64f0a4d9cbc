"""data=sequences: any labelled one-dimensional set, as .npz or as a wide .csv or .parquet table."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.lamost.labels import class_order, encode, require_unique, some
from kexue_cli.tasks.lamost.spectra import SpectraSet

NPZ_FLUX_KEYS = ("flux", "x")
LABEL_KEYS = ("label", "answer", "type", "class", "y")
TABLE_FLUX_PREFIX = "FE"  # FE0 … FE2599, the BAAI contest's columns
CSV_ROWS_PER_CHUNK = 2048

Columns = Mapping[str, NDArray[Any]]


def read(cfg: Any, part: str, *, console: Any, cache_dir: Path) -> SpectraSet | None:
    """The set of `cfg.path` (part `train`) or of `cfg.test_path` (part `test`; None without).

    Raises:
        UserError: no such file, none of the expected names in it, arrays of unequal length,
            an unknown class.
    """
    key = "path" if part == "train" else "test_path"
    if cfg[key] is None:
        return None
    path = Path(cfg[key])
    columns, flux = _open(path, cfg, f"data.{key}")
    ids = _column(columns, cfg.id_key, ("id",), path, "data.id_key")
    names = _column(columns, cfg.label_key, LABEL_KEYS, path, "data.label_key", part == "train")
    names = _without_blanks(names, path)
    group = _column(columns, cfg.group_key, (), path, "data.group_key", part == "train")
    fold = _column(columns, cfg.fold_key, (), path, "data.fold_key", part == "train")
    for name, column in (("id", ids), ("label", names), ("group", group), ("fold", fold)):
        if column is not None and len(column) != len(flux):
            raise UserError(f"{path}: {len(flux)} rows of flux but {len(column)} of {name}.")
    text_ids = np.arange(len(flux)).astype(str) if ids is None else ids.astype(str)
    require_unique(text_ids, str(path))
    classes = _classes(cfg, names, path)
    return SpectraSet(
        flux=flux,
        ids=text_ids,
        class_names=classes,
        checksum=_file_digest(path),
        labels=None if names is None else _labels(names, classes, path, text_ids),
        group=None if group is None else group.astype(str),
        fold=None if fold is None else _whole_numbers(fold, path, cfg.fold_key),
        wavelength_angstrom=_wavelength(columns, cfg, flux.shape[1], path),
    )


def _open(path: Path, cfg: Any, key: str) -> tuple[Columns, NDArray[np.float32]]:
    """All columns but the flux, and the flux (n, length) float32."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. {key} names an .npz (arrays flux or x, and label), or a .csv "
            "or .parquet table (columns id, FE0, FE1, …, answer)."
        )
    readers = {".npz": _open_npz, ".csv": _open_csv, ".parquet": _open_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: expected .npz, .csv or .parquet, found {path.suffix!r}.")
    columns, flux = readers[path.suffix](path, cfg)
    if flux.ndim != 2 or 0 in flux.shape:
        raise UserError(f"{path}: flux must be (spectra, points), found shape {flux.shape}.")
    return columns, flux


def _open_npz(path: Path, cfg: Any) -> tuple[Columns, NDArray[np.float32]]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array without a name")
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npz file without pickles: {error}") from error
    keys = NPZ_FLUX_KEYS if cfg.flux_key is None else (cfg.flux_key,)
    for key in keys:
        if key in arrays:
            flux = arrays.pop(key)
            if flux.dtype.kind not in "iuf":
                raise UserError(f"{path}: {key} must hold numbers, found {flux.dtype}.")
            return arrays, np.ascontiguousarray(flux, dtype=np.float32)
    raise UserError(
        f"{path}: no array {' or '.join(keys)}; it has {some(list(arrays), 12)}. "
        "Name the one with the spectra by data.flux_key."
    )


def _open_csv(path: Path, cfg: Any) -> tuple[Columns, NDArray[np.float32]]:
    import pandas as pd

    try:
        header = list(pd.read_csv(path, nrows=0).columns)
        flux_columns = _flux_columns(header, cfg, path)
        kinds: dict[Any, Any] = {name: np.float32 for name in flux_columns}
        kinds |= {name: str for name in header if name not in kinds}
        chunks = pd.read_csv(path, dtype=kinds, chunksize=CSV_ROWS_PER_CHUNK)
        others, flux = [], []
        for chunk in chunks:  # so that the table never stands in memory twice
            flux.append(chunk[flux_columns].to_numpy(dtype=np.float32))
            others.append(chunk.drop(columns=flux_columns))
    except ValueError as error:  # pandas' parser errors are ValueErrors too
        raise UserError(f"{path}: not a table of numbers: {error}") from error
    rest = pd.concat(others)
    return {name: rest[name].to_numpy() for name in rest.columns}, np.concatenate(flux)


def _open_parquet(path: Path, cfg: Any) -> tuple[Columns, NDArray[np.float32]]:
    parquet = require("pyarrow.parquet", extra="tables")
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable parquet file: {error}") from error
    header = file.schema_arrow.names
    flux_columns = _flux_columns(header, cfg, path)
    flux = np.empty((file.metadata.num_rows, len(flux_columns)), dtype=np.float32)
    start = 0
    for batch in file.iter_batches(CSV_ROWS_PER_CHUNK, columns=flux_columns):
        rows = slice(start, start + batch.num_rows)
        for point, name in enumerate(flux_columns):
            column = batch.column(name)
            if str(column.type) not in ("float", "double", "halffloat") and not str(
                column.type
            ).startswith(("int", "uint")):
                raise UserError(f"{path}: column {name} must hold numbers, found {column.type}.")
            flux[rows, point] = column.to_numpy(zero_copy_only=False)
        start += batch.num_rows
    rest = file.read(columns=[name for name in header if name not in set(flux_columns)])
    return {name: rest[name].to_pandas().to_numpy() for name in rest.column_names}, flux


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


def _column(
    columns: Columns,
    key: str | None,
    candidates: tuple[str, ...],
    path: Path,
    setting: str,
    needed: bool = True,
) -> NDArray[Any] | None:
    """The column named `key`, or the first candidate there is; None where neither is."""
    if key is not None and key not in columns:
        if not needed:
            return None
        raise UserError(
            f"{path}: {setting}={key}, but there is no such column; it has "
            f"{some(list(columns), 12)}."
        )
    name = key if key is not None else next((c for c in candidates if c in columns), None)
    return None if name is None else np.asarray(columns[name])


def _without_blanks(names: NDArray[Any] | None, path: Path) -> NDArray[Any] | None:
    """The labels, or None if every cell of them is empty."""
    import pandas as pd

    if names is None or not (blank := pd.isna(names)).any():
        return names
    if blank.all():
        return None
    raise UserError(f"{path}: {blank.sum()} rows have no label, the first is row {blank.argmax()}.")


def _classes(cfg: Any, names: NDArray[Any] | None, path: Path) -> tuple[str, ...]:
    if cfg.classes is not None:
        return tuple(cfg.classes)
    if names is None:
        raise UserError(
            f"{path}: no column of labels ({', '.join(LABEL_KEYS)}). Name it by data.label_key; "
            "to predict unlabelled spectra use mode=predict with data.test_path."
        )
    return class_order(names)


def _labels(
    names: NDArray[Any], classes: tuple[str, ...], path: Path, ids: NDArray[np.str_]
) -> NDArray[np.int64]:
    """Label numbers; whole numbers that are no class names themselves count the classes."""
    are_numbers = names.dtype.kind in "iu" and not set(class_order(names)) <= set(classes)
    if are_numbers and names.min() >= 0 and names.max() < len(classes):
        return names.astype(np.int64)
    return encode(names, classes, str(path), ids)


def _whole_numbers(fold: NDArray[Any], path: Path, key: str) -> NDArray[np.int64]:
    try:
        return fold.astype(np.int64)
    except ValueError as error:
        raise UserError(
            f"{path}: {key} (data.fold_key) must hold whole numbers: {error}"
        ) from error


def _wavelength(
    columns: Columns, cfg: Any, length: int, path: Path
) -> NDArray[np.floating[Any]] | None:
    found = columns.get(cfg.wavelength_key) if path.suffix == ".npz" else None
    if found is None:
        return None
    if found.shape != (length,):
        raise UserError(
            f"{path}: {cfg.wavelength_key} has shape {found.shape}, expected ({length},): one "
            "grid for all spectra. data.wavelength_key=null ignores it."
        )
    return found.astype(np.float64)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
