"""Files that are not what their name says: named, never a traceback."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.starts import start_means
from kexue_cli.tasks.em.word_counts import read_counts, read_vocabulary
from tests.tasks.em.test_data import table, write_csv


def archive(path: Path, damage: str) -> bytes:
    with path.open("wb") as file:
        np.savez_compressed(file, x=np.random.default_rng(0).normal(size=(500, 3)))
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        return bytes(content[: len(content) // 2])
    content[300:400] = b"\xff" * 100
    return bytes(content)


@pytest.mark.parametrize("name", ["t.npz", "t.npy"])
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_array_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    path.write_bytes(archive(path, damage))
    with pytest.raises(UserError, match=rf"{name}: not a readable"):
        table(path)
    with pytest.raises(UserError, match=f"{name}: expected rows of numbers"):
        start_means(str(path))


def test_an_archive_that_is_called_npy_and_an_array_called_npz_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.eye(2))
    (tmp_path / "t.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "t.npy", np.eye(2))
    (tmp_path / "t.npy").rename(tmp_path / "array.npz")
    for name in ("archive.npy", "array.npz"):
        with pytest.raises(UserError, match=f"{name}: not a readable"):
            table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.npz", b"PK\x03\x04junk", "not a readable .npz matrix"),
        ("c.mtx", b"hello", "not a readable .mtx matrix"),
        ("c.ldac", b"\xff\xfe\x00" * 20, "expected text in LDA-C's format"),
        ("c.ldac", b"1 2000000000:1\n1 1:1\n", "word 2000000000 is the highest, expected"),
        ("c.ldac", b"1 99999999999999999999:1\n", "word 99999999999999999999 is the highest"),
    ],
)
def test_word_counts_that_cannot_be_are_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_counts(tmp_path / name)


def test_matrices_of_too_many_words_are_refused(tmp_path: Path) -> None:
    matrix = sp.coo_matrix(([1.0], ([0], [2_000_000_000])), shape=(1, 2_000_000_001))
    scipy.io.mmwrite(tmp_path / "c.mtx", matrix)
    sp.save_npz(tmp_path / "c.npz", matrix.tocsr())
    for name in ("c.mtx", "c.npz"):
        with pytest.raises(UserError, match="word 2000000000 is the highest"):
            read_counts(tmp_path / name)


def test_a_byte_order_mark_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "c.ldac").write_text("2 0:3 2:1\n", encoding="utf-8-sig")
    assert read_counts(tmp_path / "c.ldac").toarray().tolist() == [[3, 0, 1]]
    (tmp_path / "words.txt").write_text("red\nblue\n", encoding="utf-8-sig")
    assert read_vocabulary(str(tmp_path / "words.txt"), 2) == ["red", "blue"]


def test_a_gzipped_csv_is_the_same_table(tmp_path: Path) -> None:
    path = write_csv(tmp_path, a=[1.5, 2.0], b=[3, 4])
    for name, separator in (("t.csv.gz", ","), ("t.tsv.gz", "\t")):
        text = path.read_text().replace(",", separator)
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert table(tmp_path / name).values.tolist() == table(path).values.tolist()
    content = (tmp_path / "t.csv.gz").read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(content[:-12])
    with pytest.raises(UserError, match=r"t\.csv\.gz: not a readable"):
        table(tmp_path / "t.csv.gz")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "a"], "column 'id' has the id 'a' in rows 1 and 3"),
        (["a", None, "b"], "column 'id' has no id in row 2"),
        (["a", " ", "b"], "column 'id' has no id in row 2"),
        ([1, 2, 2], "column 'id' has the id '2' in rows 2 and 3"),
        ([1, None, 2], "column 'id' has no id in row 2"),
    ],
)
def test_ids_that_name_no_row_are_found_while_reading(
    tmp_path: Path, ids: list[Any], message: str
) -> None:
    frame = pd.DataFrame({"id": ids, "x": [1.0, 2.0, 3.0]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(UserError, match=f"{name}: {message}"):
            table(tmp_path / name, id="id")


def test_repeated_ids_of_an_array_are_found_while_reading(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.eye(3), name=np.array(["a", "b", "b"]))
    np.save(tmp_path / "t.npy", np.array([[7.0, 1.0], [7.0, 2.0]]))
    with pytest.raises(UserError, match=r"t.npz: column 'name' has the id 'b' in rows 2 and 3"):
        table(tmp_path / "t.npz", id="name")
    with pytest.raises(UserError, match=r"t.npy: column '0' has the id '7.0' in rows 1 and 2"):
        table(tmp_path / "t.npy", id="0")
