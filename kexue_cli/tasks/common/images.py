"""Image data sets as arrays: one `ImageSet` of three splits, whatever the file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.common.image_files import read_idx, read_mat, read_npz
from kexue_cli.tasks.common.picture_files import Names, read_folder

SPLITS = ("train", "valid", "test")
Split = Literal["train", "valid", "test"]
SPLIT_SEED = 20180324  # of the fixed permutations below; no run's seed changes a split


@dataclass(frozen=True)
class Images:
    """One split: pixels (n, height, width), labels (n,) int64 or None, `ids` (n,).

    Ids are file names where every picture has a file, else row numbers.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: np.ndarray) -> Images:
        """The images at `rows`, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return Images(self.pixels[rows], labels, self.ids[rows])

    def thinned(self, limit: int | None) -> Images:
        """At most `limit` images, evenly over the file: one sorted by class keeps all classes."""
        if limit is None or limit >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, limit).round().astype(np.int64))


@dataclass(frozen=True)
class ImageSet:
    """Three splits of one data set.

    `levels`: pixels are whole numbers 0 .. levels-1 (2 binary, 17 digits, 256 gray), or, where it
    is None, float32 in [0, 1]. `sorted_by_class`: the splits whose file order follows the class,
    where "the first n" would be a biased sample.
    """

    name: str
    train: Images
    valid: Images
    test: Images
    levels: int | None
    sorted_by_class: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.train.pixels.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return 0 if self.train.labels is None else int(self.train.labels.max()) + 1

    def split(self, name: Split | str) -> Images:
        """The split called `name`."""
        images: Images = getattr(self, name)
        return images


def unit_interval(pixels: np.ndarray, levels: int | None) -> np.ndarray:
    """Pixels as float32 in [0, 1], same shape: value / (levels - 1)."""
    scale = 1.0 if levels is None else 1.0 / (levels - 1)
    return pixels.astype(np.float32) * np.float32(scale)


def load_images(data: Any, whole: bool = False) -> ImageSet:
    """The data set that the configuration node `data` names (see config.py for its options).

    Args:
        whole: where the user's files name no splits, each split is all of them.

    Raises UserError naming the file where it is missing, damaged or out of range.
    """
    match data.name:
        case "digits":
            return digits(data.valid_size, data.test_size)
        case "mnist" | "fashion_mnist":
            return idx_images(data.name, Path(data.root), data.valid_size)
        case "mnist_static":
            return static_mnist(Path(data.root))
        case "images":
            return user_images(data, whole)
    raise UserError(
        f"data={data.name} is not a set of images; use digits, mnist, fashion_mnist, "
        "mnist_static, images"
    )


def digits(valid_size: int = 200, test_size: int = 400) -> ImageSet:
    """scikit-learn's digits, 8 x 8 with 17 levels, split by a fixed permutation."""
    bunch = require("sklearn.datasets", extra="em").load_digits()
    everything = Images(
        bunch.images.astype(np.uint8), bunch.target.astype(np.int64), np.arange(len(bunch.target))
    )
    return permuted_split("digits", everything, valid_size, test_size, levels=17)


def idx_images(name: str, root: Path, valid_size: int = 5000) -> ImageSet:
    """MNIST or Fashion-MNIST; validation is the last `valid_size` of the training file."""
    train = _idx_pair(name, root, "train")
    first = len(train) - valid_size
    if not 0 < first <= len(train):
        raise UserError(
            f"data.valid_size={valid_size}: {root} has {len(train)} training images; take fewer "
            "than that"
        )
    rows = np.arange(len(train))
    test = _idx_pair(name, root, "t10k")
    return ImageSet(name, train.take(rows[:first]), train.take(rows[first:]), test, levels=256)


def _idx_pair(name: str, root: Path, prefix: str) -> Images:
    pixels = read_idx(root / f"{prefix}-images-idx3-ubyte", dimensions=3, data=name)
    labels = read_idx(root / f"{prefix}-labels-idx1-ubyte", dimensions=1, data=name)
    if len(pixels) != len(labels):
        raise UserError(
            f"{root}: {len(pixels)} images but {len(labels)} labels in the {prefix} files"
        )
    return Images(pixels, labels.astype(np.int64), np.arange(len(pixels)))


def static_mnist(root: Path) -> ImageSet:
    """Larochelle's binarised MNIST from its .mat, .amat or packed .npz files.

    The test file is sorted by digit class: never evaluate on its first n rows alone.
    """
    splits = {split: _static_split(root, split) for split in SPLITS}
    images = {
        split: Images(rows.reshape(-1, 28, 28), None, np.arange(len(rows)))
        for split, rows in splits.items()
    }
    return ImageSet("mnist_static", **images, levels=2, sorted_by_class=("test",))


def _static_split(root: Path, split: str) -> np.ndarray:
    """Rows of 784 bits, (n, 784) uint8."""
    mat, text = root / f"binarized_mnist_{split}.mat", root / f"binarized_mnist_{split}.amat"
    packed = root / "binarized_mnist_packed.npz"
    if mat.is_file():
        rows = read_mat(mat)["X"]
    elif packed.is_file():
        with np.load(packed) as arrays:
            rows = np.unpackbits(arrays[split], axis=1)
    elif text.is_file():
        rows = np.loadtxt(text, dtype=np.uint8)
    else:
        raise UserError(
            f"{root}: expected {mat.name}, {text.name} or {packed.name}. The text files (.amat) "
            "are those of "
            "Larochelle and Murray 2011; set data.root to the folder that holds them"
        )
    if rows.ndim != 2 or rows.shape[1] != 784 or rows.max() > 1:
        raise UserError(
            f"{root}, split {split}: expected rows of 784 zeros and ones, found shape {rows.shape}"
        )
    return rows.astype(np.uint8)


def user_images(data: Any, whole: bool = False) -> ImageSet:
    """A folder, .npz or .mat of the user's; splits it where the files do not.

    Args:
        whole: where they name no test images, each split is all there are, the same object.
    """
    path = Path(data.path)
    names: Names = {}
    if path.is_dir():
        arrays, levels, names = read_folder(path, data.grayscale)
    elif path.suffix in (".npz", ".mat"):
        arrays, levels = read_npz(path, data.height, data.width)
    else:
        found_there = "this file" if path.exists() else "nothing there"
        raise UserError(
            f"data.path={path}: expected a folder of pictures, an .npz or a .mat file, "
            f"found {found_there}"
        )
    found = {
        split: Images(pixels, labels, np.array(names.get(split, np.arange(len(pixels)))))
        for split, (pixels, labels) in arrays.items()
    }
    if whole and "test" not in found:
        return ImageSet("images", *(found["train"],) * 3, levels=levels)
    return _split_where_needed(found, levels, data)


def _split_where_needed(found: dict[str, Images], levels: int | None, data: Any) -> ImageSet:
    rest = found.pop("train")
    for split in ("test", "valid"):
        if split not in found:
            size = round(len(rest) * getattr(data, f"{split}_fraction"))
            rest, found[split] = _divided(rest, size)
    if min(len(rest), len(found["valid"]), len(found["test"])) == 0:
        raise UserError(
            f"data.path={data.path}: {len(rest)} train, {len(found['valid'])} valid and "
            f"{len(found['test'])} test "
            "images; every split needs one at least (data.valid_fraction, data.test_fraction)"
        )
    return ImageSet("images", rest, found["valid"], found["test"], levels)


def permuted_split(
    name: str, everything: Images, valid_size: int, test_size: int, levels: int
) -> ImageSet:
    """Train, valid and test of the given sizes, by a permutation that is always the same."""
    if valid_size < 1 or test_size < 1 or valid_size + test_size >= len(everything):
        raise UserError(
            f"data.valid_size={valid_size}, data.test_size={test_size}: {name} has "
            f"{len(everything)} images"
        )
    rest, test = _divided(everything, test_size)
    train, valid = _divided(rest, valid_size)
    return ImageSet(name, train, valid, test, levels)


def _divided(images: Images, size: int) -> tuple[Images, Images]:
    """(the others, `size` randomly drawn images), both in file order."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    return images.take(np.sort(order[size:])), images.take(np.sort(order[:size]))
