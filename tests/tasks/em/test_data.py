from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from omegaconf import OmegaConf

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.em import data, table_files
from kexue_cli.tasks.em.checks import check_values
from kexue_cli.tasks.em.config import component_numbers, covariance_names
from kexue_cli.tasks.em.config_data import TableData
from kexue_cli.tasks.em.word_counts import read_counts


def table(path: Path, **options: Any) -> data.Table:
    node = OmegaConf.structured(TableData(path=str(path), **options))
    return data.load(node)["train"]


def write_csv(folder: Path, **columns: list[Any]) -> Path:
    pd.DataFrame(columns).to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def test_csv_parquet_npz_and_npy_give_the_same_table(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 3))
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "t.csv", index=False, float_format="%.17g")
    frame.to_parquet(tmp_path / "t.parquet")
    np.save(tmp_path / "t.npy", values)
    np.savez(tmp_path / "t.npz", x=values, y=np.arange(7))
    for name in ("t.csv", "t.parquet", "t.npy", "t.npz"):
        np.testing.assert_array_equal(np.asarray(table(tmp_path / name).values), values)
    assert isinstance(table(tmp_path / "t.npy").values, np.memmap)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"columns": ["1", "2"]}, [1, 2]),
        ({"columns": ["0", "2", "4"]}, [0, 2, 4]),
        ({"columns": ["4", "0", "1"]}, [4, 0, 1]),
        ({"columns": ["3"]}, [3]),
        ({"weight": "2"}, [0, 1, 3, 4]),
    ],
)
def test_chosen_columns_of_npy_stay_on_disk(
    tmp_path: Path, options: dict[str, Any], kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEXUE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(table_files, "COPY_ROWS", 4)
    values = np.random.default_rng(0).uniform(size=(11, 5))
    np.save(tmp_path / "t.npy", values)
    found = table(tmp_path / "t.npy", **options)
    assert isinstance(found.values, np.memmap)
    np.testing.assert_array_equal(found.values, values[:, kept])
    assert found.columns == [str(j) for j in kept]
    if found.weights is not None:
        assert not isinstance(found.weights, np.memmap)
        np.testing.assert_array_equal(found.weights, values[:, 2])


def test_weight_label_and_id_columns_are_no_values(tmp_path: Path) -> None:
    path = write_csv(tmp_path, n=["x", "y"], v=[1.0, 2.0], w=[0.5, 2.0], c=["red", None])
    found = table(path, weight="w", label="c", id="n")
    assert found.columns == ["v"]
    assert found.ids.tolist() == ["x", "y"]
    assert found.weights is not None
    assert found.weights.tolist() == [0.5, 2.0]
    assert found.labels is not None
    assert found.labels.tolist() == [0, -1]


def test_a_correction_changes_one_value(tmp_path: Path) -> None:
    path = write_csv(tmp_path, v=[1.0, 2.0])
    assert table(path, corrections={"v@2": 9.0}).values.ravel().tolist() == [1.0, 9.0]
    with pytest.raises(UserError, match="row from 1 to 2"):
        table(path, corrections={"v@3": 9.0})


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1, "two", 3]}, {}, r"column 'a'.*'two' in row 2"),
        ({"a": [1, 2]}, {"columns": ["b"]}, "no column 'b'"),
        ({"a": [1, 2], "w": [1, -1]}, {"weight": "w"}, "-1.0 in row 2"),
        ({"a": [1, 2], "w": [1, None]}, {"weight": "w"}, "nan in row 2"),
        ({"a": [1, 2], "w": [0, 0]}, {"weight": "w"}, "all weights are 0"),
    ],
)
def test_bad_columns_are_named(
    tmp_path: Path, columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        table(write_csv(tmp_path, **columns), **options)


def test_missing_file_and_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        table(tmp_path / "nothing.csv")
    (tmp_path / "t.xlsx").write_text("")
    with pytest.raises(UserError, match=r"expected one of \.csv"):
        table(tmp_path / "t.xlsx")
    (tmp_path / "t.npz").write_text("no zip")
    with pytest.raises(UserError, match=r"t\.npz: not a readable"):
        table(tmp_path / "t.npz")


def values_table(values: np.ndarray) -> data.Table:
    return data.Table(
        "t", values, [f"c{j}" for j in range(values.shape[1])], np.arange(len(values))
    )


def test_infinite_missing_and_empty_rows_are_named() -> None:
    infinite = np.array([[1.0, 2.0], [1.0, np.inf]])
    with pytest.raises(UserError, match="infinite value in row 2, column 'c1'"):
        check_values(values_table(infinite), True)
    gap = np.array([[1.0, 2.0], [np.nan, 1.0]])
    assert check_values(values_table(gap), True) == 1
    with pytest.raises(UserError, match="missing value in row 2, column 'c0'"):
        check_values(values_table(gap), False)
    with pytest.raises(UserError, match="row 1 has no value"):
        check_values(values_table(np.full((1, 2), np.nan)), True)


def test_word_counts_of_three_formats_agree(tmp_path: Path) -> None:
    import scipy.io

    (tmp_path / "c.ldac").write_text("2 0:3 2:1\n1 1:5\n")
    expected = [[3, 0, 1], [0, 5, 0]]
    matrix = sp.csr_matrix(expected)
    sp.save_npz(tmp_path / "c.npz", matrix)
    scipy.io.mmwrite(tmp_path / "c.mtx", matrix)
    for name in ("c.ldac", "c.npz", "c.mtx"):
        assert read_counts(tmp_path / name).toarray().tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0:3\n", "line 1: promises 2 words, found 1"),
        ("1 0=3\n", "line 1: expected"),
        ("1 0:-3\n", "not negative; document 0"),
        ("1 0:1\n1 1:1.5\n", "document 1 .* 1.5 of word 1"),
        ("1 0:1\n1 1:inf\n", "document 1 .* inf of word 1"),
    ],
)
def test_damaged_word_counts_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.ldac").write_text(text)
    with pytest.raises(UserError, match=message):
        read_counts(tmp_path / "c.ldac")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, [3]), ("1..4", [1, 2, 3, 4]), ([1, 5], [1, 5]), ("2,3", [2, 3]), ("7", [7])],
)
def test_component_numbers(value: Any, expected: list[int]) -> None:
    assert component_numbers(value) == expected


@pytest.mark.parametrize("value", [0, -1, "4..2", "three", 2.5, True])
def test_bad_component_numbers_name_the_key(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.n_components"):
        component_numbers(value)


def test_covariance_names() -> None:
    assert len(covariance_names("all")) == 14
    assert covariance_names(["E", "full"]) == ["E", "full"]
    with pytest.raises(ConfigError, match=r"model\.covariance"):
        covariance_names("round")
