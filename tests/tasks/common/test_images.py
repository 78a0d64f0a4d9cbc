"""Readers of image data sets."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.common.image_files import read_idx, read_npz
from kexue_cli.tasks.common.images import (
    digits,
    idx_images,
    static_mnist,
    unit_interval,
    user_images,
)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def own(path: Path, **options: object) -> SimpleNamespace:
    defaults = {
        "height": None,
        "width": None,
        "grayscale": False,
        "valid_fraction": 0.2,
        "test_fraction": 0.2,
    }
    return SimpleNamespace(path=str(path), **{**defaults, **options})


def pictures(n: int, height: int = 4, width: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width)).astype(np.uint8)


def test_digits_splits_are_disjoint_whole_and_always_the_same() -> None:
    images = digits(200, 400)
    ids = np.concatenate([images.train.ids, images.valid.ids, images.test.ids])
    assert sorted(ids) == list(range(1797))
    assert (len(images.valid), len(images.test)) == (200, 400)
    assert images.levels == 17
    assert images.shape == (8, 8)
    assert images.classes == 10
    assert np.array_equal(digits(200, 400).test.ids, images.test.ids)


def test_pixels_travel_with_their_label() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    test = digits().test
    assert test.labels is not None
    assert np.array_equal(test.labels, bunch.target[test.ids])
    assert np.array_equal(test.pixels, bunch.images[test.ids])


def test_mnist_files_read_as_published(data_dir: Path) -> None:
    images = idx_images("mnist", data_dir / "mnist", valid_size=400)
    assert (len(images.train), len(images.valid), len(images.test)) == (59600, 400, 10000)
    whole = np.concatenate([images.train.pixels, images.valid.pixels])
    raw = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60000, 28, 28) + whole.tobytes()
    assert hashlib.sha256(raw).hexdigest().startswith("ba891046e6505d7a")  # LeCun's train file
    assert unit_interval(whole, images.levels).mean() == pytest.approx(0.13066, abs=1e-5)


def test_static_mnist_has_the_published_means_and_agrees_between_formats(
    data_dir: Path, tmp_path: Path
) -> None:
    root = data_dir / "mnist_static"
    images = static_mnist(root)
    means = [images.split(name).pixels.mean() for name in ("train", "valid", "test")]
    assert means == pytest.approx([0.13056, 0.13113, 0.13251], abs=5e-6)
    assert images.sorted_by_class == ("test",)
    (tmp_path / "binarized_mnist_packed.npz").symlink_to(root / "binarized_mnist_packed.npz")
    packed = static_mnist(tmp_path)
    assert np.array_equal(packed.train.pixels, images.train.pixels)
    assert np.array_equal(packed.test.pixels, images.test.pixels)


def test_thinned_takes_rows_spread_over_the_file() -> None:
    images = digits().test
    few = images.thinned(5)
    assert few.ids.tolist() == images.ids[[0, 100, 200, 299, 399]].tolist()
    assert images.thinned(None) is images


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "not a whole gzip"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 3) + b"abc"), "3 dimensions"),
        (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 2) + b"abc"), "promises"),
    ],
    ids=["not-gzip", "wrong-header", "cut-short"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=f"train-images.*{message}"):
        read_idx(tmp_path / "train-images-idx3-ubyte", 3, "mnist")


def test_a_missing_file_names_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"four idx files.*data=digits"):
        idx_images("mnist", tmp_path)


def test_idx_files_of_any_size_are_read_zipped_or_not(tmp_path: Path) -> None:
    for prefix, n in (("train", 9), ("t10k", 4)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", pictures(n))
        labels = tmp_path / f"{prefix}-labels-idx1-ubyte"
        labels.write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", n) + bytes(range(n)))
    images = idx_images("fashion_mnist", tmp_path, valid_size=2)
    assert np.array_equal(images.train.pixels, pictures(9)[:7])
    assert images.valid.labels is not None
    assert images.valid.labels.tolist() == [7, 8]


def test_npz_with_named_splits_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_train=pictures(10), y_train=np.arange(10), x_test=pictures(5))
    images = user_images(own(path))
    assert np.array_equal(images.test.pixels, pictures(5))
    assert (len(images.train), len(images.valid)) == (8, 2)
    assert images.levels == 256


@pytest.mark.parametrize(
    ("array", "levels", "scale"),
    [
        (pictures(10) > 127, 2, 1),
        (pictures(10) / 255.0, 256, 255),
        (np.random.default_rng(0).random((10, 4, 3)), None, 1),
    ],
)
def test_levels_are_recognised(
    tmp_path: Path, array: np.ndarray, levels: int | None, scale: float
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=array)
    arrays, found = read_npz(path, None, None)
    assert found == levels
    np.testing.assert_allclose(arrays["train"][0], array * scale, atol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, 1.5, 300.0, np.nan])
def test_pixels_out_of_range_are_refused(tmp_path: Path, bad: float) -> None:
    array = np.full((3, 2, 2), 0.25)
    array[1, 1, 1] = bad
    np.savez(tmp_path / "own.npz", x=array)
    with pytest.raises(UserError, match=r"own\.npz.*(expected pixels|NaN)"):
        read_npz(tmp_path / "own.npz", None, None)


def npz_of(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 broken", "not a readable .npz"),
        (npz_of(train=pictures(30))[:200], "not a readable .npz"),
        (b"", "not a readable .npz"),
        (npy_of(pictures(3)), "not a readable .npz"),
        (npz_of(train=np.array([{}, None], dtype=object)), "not a readable .npz"),
        (npz_of(train=np.array([["a", "b"]])), "array 'train': expected pixels, found <U1"),
        (npz_of(train=np.zeros((0, 4, 4))), "expected pixels, found float64 of shape .0, 4, 4."),
        (npz_of(train=np.full((9, 4, 4), np.nan)), "NaN"),
        (npz_of(pixels=pictures(3)), "expected an array named train, .* found .'pixels'"),
    ],
)
def test_a_damaged_npz_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_npz(path, None, None)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("names", [("train", "test"), ("train_images", "test_images")])
def test_arrays_are_found_under_their_usual_names(tmp_path: Path, names: tuple[str, str]) -> None:
    stored: dict[str, Any] = {names[0]: pictures(6), names[1]: pictures(4)}
    np.savez(tmp_path / "own.npz", test_labels=np.arange(4), **stored)
    arrays, levels = read_npz(tmp_path / "own.npz", None, None)
    assert {split: len(pixels) for split, (pixels, _) in arrays.items()} == {"train": 6, "test": 4}
    assert arrays["test"][1] is not None
    assert levels == 256


def test_flat_rows_need_a_shape_unless_square(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=pictures(6).reshape(6, 12))
    with pytest.raises(UserError, match=r"data\.height"):
        read_npz(path, None, None)
    assert np.array_equal(read_npz(path, 4, 3)[0]["train"][0], pictures(6))


def test_mat_files_of_omniglot_and_frey_faces_have_their_layout(tmp_path: Path) -> None:
    from scipy.io import savemat

    drawings = pictures(3, 28, 28) / 255.0
    columns = (
        drawings.transpose(0, 2, 1).reshape(3, 784).T
    )  # MATLAB's column-major pictures, one per column
    savemat(tmp_path / "chardata.mat", {"data": columns, "testdata": columns[:, :2]})
    arrays, _ = read_npz(tmp_path / "chardata.mat", None, None)
    assert np.array_equal(arrays["test"][0], pictures(3, 28, 28)[:2])
    faces = pictures(4, 28, 20)
    savemat(tmp_path / "frey.mat", {"ff": faces.reshape(4, 560).T})
    assert np.array_equal(read_npz(tmp_path / "frey.mat", None, None)[0]["train"][0], faces)


def write_pictures(folder: Path, array: np.ndarray, mode: str = "L") -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(array):
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03d}.png")


def test_folder_with_splits_and_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            write_pictures(tmp_path / split / label, pictures(5 if label == "cat" else 6))
    images = user_images(own(tmp_path))
    assert np.array_equal(images.test.pixels[:5], pictures(5))
    assert images.test.labels is not None
    assert images.test.labels.tolist() == [0] * 5 + [1] * 6
    assert len(images.train) + len(images.valid) == 11


def test_pictures_of_another_size_or_mode_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", pictures(3))
    write_pictures(tmp_path / "b", pictures(1, 5, 5))
    with pytest.raises(UserError, match=r"b/000\.png: 5 x 5"):
        user_images(own(tmp_path))
    write_pictures(tmp_path / "b", pictures(1), mode="RGB")
    with pytest.raises(UserError, match=r"b/000\.png: 3 x 4 pixels of mode RGB"):
        user_images(own(tmp_path))
    assert len(user_images(own(tmp_path, grayscale=True)).train) == 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures"):
        user_images(own(tmp_path))


@pytest.mark.parametrize("name", ["0.png", "0.tif", "0.pgm"])
def test_pictures_of_sixteen_bits_keep_their_grays(tmp_path: Path, name: str) -> None:
    from PIL import Image

    gray = np.arange(0, 65536, 257).astype(np.uint16).reshape(16, 16)
    (tmp_path / "deep").mkdir()
    Image.fromarray(gray).save(tmp_path / "deep" / name)
    with pytest.raises(UserError, match=r"mode I.* Set data\.grayscale=true"):
        user_images(own(tmp_path / "deep"), whole=True)
    found = user_images(own(tmp_path / "deep", grayscale=True), whole=True)
    assert found.levels == 256
    assert found.test.pixels[0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("grayscale", [True, False])
def test_pictures_without_a_known_white_are_refused(
    tmp_path: Path, dtype: Any, grayscale: bool
) -> None:
    from PIL import Image

    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "0.tif")
    with pytest.raises(UserError, match=r"0\.tif: mode [IF], whose numbers have no known white"):
        user_images(own(tmp_path, grayscale=grayscale), whole=True)


def test_pictures_are_called_by_their_place_below_the_split(tmp_path: Path) -> None:
    from PIL import Image

    for split, names in (("train", ("a/0.png", "b/0.png", "b/1.png")), ("test", ("a/7.png",))):
        for name in names:
            (tmp_path / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures(1)[0]).save(tmp_path / split / name)
    images = user_images(own(tmp_path, valid_fraction=0.34))
    assert images.test.ids.tolist() == ["a/7.png"]
    both = [*images.train.ids, *images.valid.ids]
    assert sorted(both) == ["a/0.png", "b/0.png", "b/1.png"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": pictures(6).astype(complex)}, "expected pixels, found complex128"),
        (
            {"train": pictures(6), "train_labels": np.arange(6) * 10**9},
            "class numbers 0, 1, ... below 10000, found 5000000000",
        ),
    ],
)
def test_arrays_that_are_no_pixels_or_classes_are_named(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(UserError, match=f"own.npz.*{message}"):
        user_images(own(tmp_path / "own.npz"))
