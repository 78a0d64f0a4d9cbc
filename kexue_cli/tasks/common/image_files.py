"""File formats of images: idx (LeCun), npz, .mat (OMNIGLOT, Frey faces)."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.extras import require

SPLIT_KEYS = {
    "train": (
        ("train", "train_labels"),
        ("train_images", "train_labels"),
        ("x_train", "y_train"),
        ("images", "labels"),
        ("x", "y"),
        ("X", "y"),
    ),
    "valid": (
        ("valid", "valid_labels"),
        ("valid_images", "valid_labels"),
        ("x_valid", "y_valid"),
    ),
    "test": (("test", "test_labels"), ("test_images", "test_labels"), ("x_test", "y_test")),
}
MOST_CLASSES = 10_000  # every class has its column of one-hot labels, up to the highest number
Arrays = dict[
    str, tuple[np.ndarray, np.ndarray | None]
]  # split -> pixels (n, height, width), labels (n,)


def read_idx(path: Path, dimensions: int, data: str) -> np.ndarray:
    """Unsigned bytes of an idx file (`path` or `path`.gz) with that many dimensions.

    Source: the format as described beside the original MNIST files. Raises UserError naming the
    file.
    """
    zipped = path.with_name(path.name + ".gz")
    if not zipped.is_file() and not path.is_file():
        raise UserError(
            f"{zipped} not found. data={data} needs the four idx files (train and t10k, images "
            "and labels; .gz "
            f"or not) in {path.parent}; point data.root or KEXUE_DATA_DIR at them, or use "
            "data=digits (no download)"
        )
    path = zipped if zipped.is_file() else path
    try:
        content = gzip.decompress(path.read_bytes()) if path == zipped else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    return _parse_idx(content, dimensions, path)


def _parse_idx(content: bytes, dimensions: int, path: Path) -> np.ndarray:
    header = 4 + 4 * dimensions
    if len(content) < header or content[:3] != b"\0\0\x08" or content[3] != dimensions:
        raise UserError(
            f"{path}: expected an idx file of unsigned bytes in {dimensions} dimensions "
            f"(first bytes 0 0 8 {dimensions}), found {list(content[:4])}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = int(np.prod(shape))
    if len(content) - header != expected:
        raise UserError(
            f"{path}: its header promises {shape} = {expected} bytes, "
            f"found {len(content) - header}; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB 5 file."""
    try:
        return dict(require("scipy.io", extra="vae").loadmat(path))
    except (ValueError, NotImplementedError, OSError) as error:
        raise UserError(f"{path}: not a readable MATLAB 5 file ({error})") from error


def read_npz(path: Path, height: int | None, width: int | None) -> tuple[Arrays, int | None]:
    """Images of a user's .npz (keys: see SPLIT_KEYS) or .mat file, and their number of levels.

    Of .mat files it knows OMNIGLOT's chardata.mat of the IWAE authors (data, testdata: a column of
    784 per image) and frey_rawface.mat (ff: a column of 28 x 20 per image).
    """
    if not path.is_file():
        raise UserError(f"data.path={path}: no such file")
    if path.suffix == ".mat":
        stored: Mapping[str, np.ndarray] = _mat_images(path)
    else:
        stored = _npz_arrays(path)
    arrays: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for split, candidates in SPLIT_KEYS.items():
        for pixels_key, labels_key in candidates:
            if pixels_key in stored:
                source = f"{path}, array {pixels_key!r}"
                pixels = as_pictures(_numbers(stored[pixels_key], source), height, width, source)
                labels = stored.get(labels_key)
                arrays[split] = (
                    pixels,
                    None if labels is None else _class_numbers(labels, len(pixels), path),
                )
                break
    if "train" not in arrays:
        raise UserError(
            f"{path}: expected an array named train, train_images, x_train, images or x; found "
            f"{sorted(stored)}"
        )
    sizes = {split: pixels.shape[1:] for split, (pixels, _) in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"{path}: images of different size: {sizes}")
    return quantised(arrays, str(path))


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz; one that would run code to be read is refused."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: not a readable .npz of number arrays ({error}). Write it by "
            "numpy.savez(path, train=images, train_labels=class_numbers)"
        ) from error


def _numbers(array: np.ndarray, source: str) -> np.ndarray:
    if array.size and array.dtype.kind in "biuf":
        return array
    raise UserError(f"{source}: expected pixels, found {array.dtype} of shape {array.shape}")


def _mat_images(path: Path) -> dict[str, np.ndarray]:
    stored = read_mat(path)
    if "ff" in stored:  # Frey faces
        return {"train": stored["ff"].T.reshape(-1, 28, 20)}
    if "data" in stored and "testdata" in stored:  # OMNIGLOT; MATLAB counts rows first
        return {
            name: stored[key].T.reshape(-1, 28, 28).transpose(0, 2, 1)
            for name, key in (("train", "data"), ("test", "testdata"))
        }
    return {key: value for key, value in stored.items() if not key.startswith("__")}


def as_pictures(
    array: np.ndarray, height: int | None, width: int | None, source: str
) -> np.ndarray:
    """(n, height, width) from that, (n, height, width, 1), or flat rows (n, height*width)."""
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        return array
    if array.ndim != 2:
        raise UserError(
            f"{source}: expected (n, height, width) or (n, pixels), found shape {array.shape}"
        )
    side = round(array.shape[1] ** 0.5)
    height, width = height or side, width or side
    if height * width != array.shape[1]:
        raise UserError(
            f"{source}: rows of {array.shape[1]} pixels are not {height} x {width}; set "
            "data.height and data.width"
        )
    return array.reshape(-1, height, width)


def _class_numbers(labels: np.ndarray, n: int, path: Path) -> np.ndarray:
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != n or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UserError(
            f"{path}: expected {n} class numbers 0, 1, ..., found {labels.dtype} of shape "
            f"{labels.shape}"
        )
    if labels.max() >= MOST_CLASSES:
        raise UserError(
            f"{path}: expected class numbers 0, 1, ... below {MOST_CLASSES}, found "
            f"{labels.max()}; number the classes in turn"
        )
    return labels.astype(np.int64)


def quantised(arrays: Arrays, source: str) -> tuple[Arrays, int | None]:
    """Pixels as integers 0 .. levels-1 where they are, else float32 in [0, 1] and levels None.

    Accepts 0/1, 0 .. 255, and fractions in [0, 1]; raises UserError for every other range.
    """
    low = min(float(pixels.min()) for pixels, _ in arrays.values())
    high = max(float(pixels.max()) for pixels, _ in arrays.values())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{source}: pixels hold NaN or infinity")
    whole = all(bool(np.all(pixels == np.round(pixels))) for pixels, _ in arrays.values())
    if low < 0 or high > 255 or (high > 1 and not whole):
        raise UserError(
            f"{source}: expected pixels in 0 .. 1 or whole numbers in 0 .. 255, found {low:g} .. "
            f"{high:g}"
        )
    if whole:
        return _converted(arrays, 1, np.uint8), 2 if high <= 1 else 256
    steps = all(
        bool(np.allclose(pixels * 255, np.round(pixels * 255), atol=1e-3))
        for pixels, _ in arrays.values()
    )
    if steps:
        return _converted(arrays, 255, np.uint8), 256
    return _converted(arrays, 1, np.float32), None


def _converted(arrays: Arrays, scale: int, dtype: Any) -> Arrays:
    whole = np.issubdtype(dtype, np.integer)
    return {
        split: ((np.round(pixels * scale) if whole else pixels).astype(dtype), labels)
        for split, (pixels, labels) in arrays.items()
    }
