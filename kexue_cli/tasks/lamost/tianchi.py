"""data=tianchi: the 2018 contest's index files and text files, under the names of its rounds.

The contest (Tianchi race 231646) came as CSV indices `id,type` (`id` alone for the sets to be
predicted) and one text file `<id>.txt` per spectrum, in a folder or zip:
first_train_index_20180131.csv with first_train_data_20180131, first_test_…, first_rank_… and so on.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.conversion import Conversion, Converted, convert, key_of
from kexue_cli.tasks.lamost.instrument import wavelength_grid
from kexue_cli.tasks.lamost.labels import encode, read_index, some
from kexue_cli.tasks.lamost.number_text import compiled, parse_files, parse_rows
from kexue_cli.tasks.lamost.spectra import SpectraSet
from kexue_cli.tasks.lamost.text_files import Listing, TextReader, list_text_files

TEXTS_AT_ONCE = 16  # few enough to be still in the processor's cache when they are parsed
ROUNDS = ("first", "second_a", "second_b", "second", "final", "")
ROLES = {"train": ("train",), "test": ("test", "rank")}  # the board of a round before its rank set
NAME = re.compile(
    r"(?:(?P<round>first|second_a|second_b|second|final)_)?(?P<role>train|test|rank)"
    r"(?P<kind>_?index|_?data|)(?:_\d{8})?(?:_?(?:part)?_?\d+)?(?P<suffix>\.csv|\.zip|)"
)


def read(cfg: Any, part: str, *, console: Any, cache_dir: Path) -> SpectraSet | None:
    """The spectra of `part`, `train` or `test`; None if the user has no test set.

    Raises:
        UserError: files that are missing or do not fit each other, unknown classes, spectra that
            are no rows of `cfg.length` numbers.
    """
    index, places = locate(cfg, part)
    if not places:
        return None
    listing = list_text_files(places)
    types = None
    if index is not None:
        ids, types = read_index(index, needs_type=part == "train")
        listing = match(listing, ids, index, places, cfg.ignore_extra)
    classes = tuple(cfg.classes)
    labels = None if types is None else encode(types, classes, str(index), listing.ids)
    converted = convert_text(listing, cfg.length, cache_dir, console, cfg.workers)
    named = f"{converted.checksum} {None if labels is None else labels.tolist()}"
    return SpectraSet(
        flux=converted.flux,
        ids=listing.ids,
        class_names=classes,
        checksum=hashlib.sha256(named.encode()).hexdigest(),
        labels=labels,
        wavelength_angstrom=wavelength_grid(cfg.length),
        quality=converted.quality,
    )


def locate(cfg: Any, part: str) -> tuple[Path | None, tuple[Path, ...]]:
    """The index and the folders or zips of `part`: those the user names, else found in `root`.

    Raises:
        UserError: an index without spectra or, for `train`, spectra without an index.
    """
    index, place = cfg[f"{part}_index"], cfg[f"{part}_dir"]
    if index is None and place is None:
        found_index, found_places = find_round(cfg, part)
        if part == "train" and (found_index is None or not found_places):
            raise UserError(_how_to_get(cfg))
        return found_index, found_places
    if place is None:
        raise UserError(f"data.{part}_index={index} also needs data.{part}_dir=<folder or zip>.")
    if index is None and part == "train":
        raise UserError(f"data.train_dir={place} also needs data.train_index=<CSV id,type>.")
    return (None if index is None else Path(index)), (Path(place),)


def training_is_there(cfg: Any) -> bool:
    """Whether the user names a training set, or one of the contest's rounds is in `cfg.root`."""
    named = cfg.train_index is not None or cfg.train_dir is not None
    return named or bool(find_round(cfg, "train")[1])


def find_round(cfg: Any, part: str) -> tuple[Path | None, tuple[Path, ...]]:
    """Index and data of the earliest round in `cfg.root` that has both (of `cfg.round` if set)."""
    root = Path(cfg.root)
    names = sorted(path for path in root.iterdir()) if root.is_dir() else []
    matches = [(path, match) for path in names if (match := NAME.fullmatch(path.name))]
    for stage in ROUNDS if cfg.round is None else (cfg.round,):
        for role in ROLES[part]:
            of_role = [
                (path, match["kind"].strip("_"))
                for path, match in matches
                if (match["round"] or "") == stage and match["role"] == role
            ]
            indices = [path for path, kind in of_role if kind == "index" and path.is_file()]
            data = [path for path, kind in of_role if kind != "index" and path.suffix != ".csv"]
            if indices and data:
                return indices[0], _unpacked(data)
    return None, ()


def _unpacked(places: list[Path]) -> tuple[Path, ...]:
    """Folders and zips, without the zips whose folder is there too."""
    folders = {path for path in places if path.is_dir()}
    return tuple(path for path in places if path in folders or path.with_suffix("") not in folders)


def _how_to_get(cfg: Any) -> str:
    stage = f"round {cfg.round!r}" if cfg.round is not None else "any round"
    return (
        f"{cfg.root}: no training set of {stage} found. data=tianchi looks for an index such as "
        "first_train_index_20180131.csv (or train_index.csv; columns id,type) and beside it the "
        "spectra, first_train_data_20180131 or train (a folder of <id>.txt, or that name with "
        ".zip). The files come from Tianchi race 231646, which asks you to sign in. Set data.root, "
        "or data.train_index and data.train_dir; data=synthetic_spectra needs no files."
    )


def match(
    listing: Listing, ids: np.ndarray, index: Path, places: tuple[Path, ...], ignore_extra: bool
) -> Listing:
    """The listed files in the order of the index.

    Raises:
        UserError: the index names spectra that are not there, or (unless `ignore_extra`)
            there are spectra which it does not name.
    """
    where = ", ".join(map(str, places))
    position = np.searchsorted(listing.ids, ids)
    there = listing.ids[np.minimum(position, len(listing.ids) - 1)] == ids
    if not there.all():
        absent = ids[~there]
        raise UserError(
            f"{index} names {len(absent)} spectra that {where} does not have: {some(absent)}. "
            "Is it the index of another round, or is the data not fully unpacked?"
        )
    if len(ids) < len(listing.ids) and not ignore_extra:
        extra = np.setdiff1d(listing.ids, ids)
        raise UserError(
            f"{where} has {len(extra)} spectra that {index} does not name: {some(extra)}. "
            "Is it the index of another round? To leave them out set data.ignore_extra=true."
        )
    return listing.take(position)


def convert_text(
    listing: Listing, length: int, cache_dir: Path, console: Any, workers: int | None = None
) -> Converted:
    """The flux of a listing's files, row by row.

    Raises:
        UserError: a file that cannot be read or does not hold `length` numbers.
    """
    if not compiled():
        console.say("pip install 'kexue-cli[lamost]' makes reading text files several times faster")
    with TextReader(listing) as reader:

        def read_rows(start: int, stop: int) -> tuple[NDArray[np.float32], list[Any]]:
            flux = np.empty((stop - start, length), dtype=np.float32)
            for first in range(start, stop, TEXTS_AT_ONCE):
                rows = range(first, min(first + TEXTS_AT_ONCE, stop))
                read_texts(reader, rows, flux[first - start :][: len(rows)])
            return flux, []

        key = key_of(listing.ids, listing.entries["bytes"], listing.entries["stamp"], length)
        wanted = Conversion(key, (len(listing.ids), length), read_rows)
        return convert(wanted, cache_dir, console, workers)


def read_texts(reader: TextReader, rows: range, out: NDArray[np.float32]) -> None:
    """Parse the files of some rows into out (len(rows), length).

    Raises:
        UserError: a file that cannot be read or does not hold `length` numbers.
    """
    plain = reader.plain(rows)
    if plain is not None and parse_files(*plain, out):
        return
    complaints = parse_rows([reader.read(row) for row in rows], out)
    if complaints:
        row, complaint = complaints[0]
        others = f" ({len(complaints) - 1} more like it nearby)" if len(complaints) > 1 else ""
        raise UserError(
            f"{reader.listing.name(rows[row])}: {complaint}{others}. Each file holds one line of "
            f"{out.shape[1]} numbers with commas between them; mend the file, take it out of the "
            "index, or set data.length."
        )
