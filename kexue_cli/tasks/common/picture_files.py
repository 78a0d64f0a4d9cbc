"""Folders of pictures: .png, .jpg and what else PIL reads, as gray levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.common.image_files import SPLIT_KEYS, Arrays, quantised

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".gif", ".tif", ".tiff"}
SIXTEEN_BIT = ("PNG", "PPM")  # formats whose mode I is 16 bits, 0 .. 65535
Names = dict[str, list[str]]  # split -> of each picture


def read_folder(root: Path, grayscale: bool) -> tuple[Arrays, int | None, Names]:
    """Pictures below `root`: split folders (train, valid, test), class folders below those.

    Both only where there are any. Also the pictures' names, below their split's folder.
    """
    splits = {split: root / split for split in SPLIT_KEYS if (root / split).is_dir()}
    if "train" not in splits:
        splits = {"train": root}
    first: Path | None = None
    arrays: Arrays = {}
    names: Names = {}
    classes = sorted(
        {file.parent.name for file in _pictures(splits["train"]) if file.parent != splits["train"]}
    )
    for split, folder in splits.items():
        files = _pictures(folder)
        if not files:
            raise UserError(f"{folder}: no pictures ({', '.join(sorted(PICTURES))}) found below it")
        first = first or files[0]
        pixels = _stacked(files, first, grayscale)
        labels = _folder_labels(files, folder, classes) if classes else None
        arrays[split] = (pixels, labels)
        names[split] = [file.relative_to(folder).as_posix() for file in files]
    return *quantised(arrays, str(root)), names


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)


def _folder_labels(files: list[Path], folder: Path, classes: list[str]) -> np.ndarray:
    for file in files:
        if file.parent.name not in classes:
            raise UserError(f"{file}: expected in one of the class folders {classes} of {folder}")
    return np.array([classes.index(file.parent.name) for file in files], dtype=np.int64)


def _stacked(files: list[Path], first: Path, grayscale: bool) -> np.ndarray:
    """All pictures, (n, height, width) uint8; every one must have the size and mode of `first`.

    With `grayscale` modes may differ, and are turned into gray.
    """
    image_module = require("PIL.Image", extra="vae")
    expected: tuple[tuple[int, int], str] | None = None
    rows = []
    for file in [first, *files]:
        try:
            with image_module.open(file) as picture:
                found = (picture.size, "gray" if grayscale else picture.mode)
                expected = expected or found
                if found != expected:
                    raise UserError(
                        f"{file}: {found[0][0]} x {found[0][1]} pixels of mode {found[1]}, but "
                        f"{first} has "
                        f"{expected[0][0]} x {expected[0][1]} of mode {expected[1]}; all pictures "
                        "must agree"
                    )
                rows.append(_gray(picture, file, grayscale))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{file}: not a readable picture ({error})") from error
    return np.stack(rows[1:])


def _gray(picture: Any, file: Path, convert: bool) -> np.ndarray:
    """Gray levels 0 .. 255, (height, width); those of modes other than L and 1 only by wish."""
    mode = picture.mode
    deep = mode.startswith("I;16") or (mode == "I" and picture.format in SIXTEEN_BIT)
    if mode[:1] in ("I", "F") and not deep:
        raise UserError(
            f"{file}: mode {mode}, whose numbers have no known white; expected 8-bit pictures. "
            "Scale them, and save 8-bit pictures or an .npz of numbers from 0 to 1"
        )
    if mode not in ("1", "L") and not convert:
        raise UserError(
            f"{file}: mode {mode}; expected 8-bit gray pictures (L or 1). Set data.grayscale=true "
            "to turn them into such"
        )
    if deep:  # PIL's own conversion cuts off at 255
        return np.round(np.asarray(picture) / 257.0).astype(np.uint8)
    return np.asarray(picture.convert("L"))
