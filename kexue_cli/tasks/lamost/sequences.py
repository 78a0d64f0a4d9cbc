"""data=sequences: any labelled one-dimensional set, as .npz or as a wide .csv or .parquet table.

Rows are counted from 0 in messages, as the ids of a set without ids are.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.labels import class_order, encode, require_unique, some
from kexue_cli.tasks.lamost.normalise import to_float32
from kexue_cli.tasks.lamost.sequence_tables import Columns, open_csv, open_parquet
from kexue_cli.tasks.lamost.spectra import SpectraSet

NPZ_FLUX_KEYS = ("flux", "x")
LABEL_KEYS = ("label", "answer", "type", "class", "y")
UNREADABLE_NPZ = (
    zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError
)  # fmt: skip


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
    group = _column(columns, cfg.group_key, (), path, "data.group_key", part == "train")
    fold = _column(columns, cfg.fold_key, (), path, "data.fold_key", part == "train")
    for name, column in (("id", ids), ("label", names), ("group", group), ("fold", fold)):
        if column is not None:
            _require_one_each(column, len(flux), name, path)
    for name, column in (("id", ids), ("group", group)):
        if column is not None and (blank := _blank(column)).any():
            raise UserError(f"{path}: row {blank.argmax()} has no {name}.")
    names = _without_blanks(names, path)
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


def training_is_there(cfg: Any) -> bool:
    """Whether there is a file of `cfg.path`."""
    return Path(cfg.path).is_file()


def _open(path: Path, cfg: Any, key: str) -> tuple[Columns, NDArray[np.float32]]:
    """All columns but the flux, and the flux (n, length) float32."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. {key} names an .npz (arrays flux or x, and label), or a .csv "
            "or .parquet table (columns id, FE0, FE1, …, answer)."
        )
    readers = {
        ".npz": _open_npz, ".csv": open_csv, ".csv.gz": open_csv, ".parquet": open_parquet
    }  # fmt: skip
    kind = next((suffix for suffix in readers if path.name.endswith(suffix)), None)
    if kind is None:
        known = ".npz, .csv, .csv.gz or .parquet"
        raise UserError(f"{path}: expected {known}, found {path.suffix!r}.")
    columns, flux = readers[kind](path, cfg)
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
    except UNREADABLE_NPZ as error:
        raise UserError(f"{path}: not a readable .npz file without pickles: {error}") from error
    keys = NPZ_FLUX_KEYS if cfg.flux_key is None else (cfg.flux_key,)
    key = next((key for key in keys if key in arrays), None)
    if key is None:
        raise UserError(
            f"{path}: no array {' or '.join(keys)}; it has {some(list(arrays), 12)}. "
            "Name the one with the spectra by data.flux_key."
        )
    flux = arrays.pop(key)
    if flux.dtype.kind not in "iuf":
        raise UserError(f"{path}: {key} must hold numbers, found {flux.dtype}.")
    return arrays, to_float32(flux, lambda *at: f"{path}: {key}[{', '.join(map(str, at))}]")


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


def _require_one_each(column: NDArray[Any], rows: int, name: str, path: Path) -> None:
    """Raise UserError if a column is not (rows,)."""
    if column.ndim != 1:
        raise UserError(
            f"{path}: {name} has shape {column.shape}, expected ({rows},): one value for "
            "each spectrum. Of one-hot labels take the argmax."
        )
    if len(column) != rows:
        raise UserError(f"{path}: {rows} rows of flux but {len(column)} of {name}.")


def _without_blanks(names: NDArray[Any] | None, path: Path) -> NDArray[Any] | None:
    """The labels, or None if every cell of them is empty."""
    if names is None or not (blank := _blank(names)).any():
        return names
    if blank.all():
        return None
    raise UserError(f"{path}: {blank.sum()} rows have no label, the first is row {blank.argmax()}.")


def _blank(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Which cells are empty, or missing in the sense of their file; "NA" is a name."""
    import pandas as pd

    empty = np.asarray(pd.isna(column))
    if column.dtype.kind in "OUS":
        empty |= np.array([isinstance(cell, str) and not cell.strip() for cell in column.tolist()])
    return empty


def _classes(cfg: Any, names: NDArray[Any] | None, path: Path) -> tuple[str, ...]:
    if cfg.classes is not None:
        return tuple(cfg.classes)
    if names is None:
        raise UserError(
            f"{path}: no column of labels ({', '.join(LABEL_KEYS)}). Name it by data.label_key; "
            "to predict unlabelled spectra use mode=predict with data.test_path."
        )
    found = class_order(names)
    if len(found) == 1:
        raise UserError(
            f"{path}: every spectrum is of class {found[0]!r}; two or more classes are needed."
        )
    return found


def _labels(
    names: NDArray[Any], classes: tuple[str, ...], path: Path, ids: NDArray[np.str_]
) -> NDArray[np.int64]:
    """Label numbers; whole numbers that are no class names themselves count the classes."""
    are_numbers = names.dtype.kind in "iu" and not set(class_order(names)) <= set(classes)
    if are_numbers and names.min() >= 0 and names.max() < len(classes):
        return names.astype(np.int64)
    return encode(names, classes, str(path), ids)


def _whole_numbers(fold: NDArray[Any], path: Path, key: str) -> NDArray[np.int64]:
    expected = f"{path}: {key} (data.fold_key) must hold whole numbers"
    if fold.dtype.kind == "c":
        raise UserError(f"{expected}, found {fold.dtype}.")
    try:
        numbers = fold.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{expected}: {error}.") from error
    wrong = ~(np.abs(numbers) < 2**53) | (numbers != np.floor(numbers))  # NaN is no number below
    if wrong.any():
        raise UserError(f"{expected}, found {fold[wrong.argmax()]} in row {wrong.argmax()}.")
    return numbers.astype(np.int64)


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
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise UserError(
            f"{path}: {cfg.wavelength_key} must hold finite numbers, in angstrom. "
            "data.wavelength_key=null ignores it."
        )
    return found.astype(np.float64)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
