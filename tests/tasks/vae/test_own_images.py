"""Pictures of the user's: predicted whole, with labels that fit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tasks.vae.runs import Finished, run

SHORT = ("task=vae", "limit.steps=2", "task.nll_samples=2", "task.bounds=[]", "data=images")


def own(folder: Path, data: Path, *words: str) -> Finished:
    return run(folder, *SHORT, f"data.path={data}", "device.threads=1", *words)


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 8, 8)).astype(np.uint8)


def folder_of(path: Path, n: int) -> Path:
    path.mkdir()
    for number, picture in enumerate(pictures(n)):
        Image.fromarray(picture).save(path / f"star{number}.png")
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_picture_of_a_folder_is_predicted_under_its_file_name(tmp_path: Path) -> None:
    trained = own(tmp_path / "run", folder_of(tmp_path / "many", 40), "task.pixels=gray")
    assert trained.returncode == 0, trained.printed
    words = ("task.pixels=gray", "mode=predict", f"checkpoint={tmp_path / 'run'}")
    found = {}
    for name, n in (("many", 40), ("few", 2)):
        if n == 2:
            folder_of(tmp_path / name, n)
        done = own(tmp_path / f"of {name}", tmp_path / name, *words)
        assert done.returncode == 0, done.printed
        found[name] = rows_of(tmp_path / f"of {name}")
        expected = sorted(f"star{number}.png" for number in range(n))
        assert [row["id"] for row in found[name]] == expected
    by_id = {row["id"]: row["z0"] for row in found["many"]}
    tested = rows_of(tmp_path / "run")
    assert len(tested) == 4
    for row in tested:
        assert float(row["z0"]) == pytest.approx(float(by_id[row["id"]]), abs=1e-5)


def test_arrays_without_splits_are_predicted_whole_by_row_number(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=pictures(20))
    assert own(tmp_path / "run", tmp_path / "own.npz").returncode == 0
    words = ("mode=predict", f"checkpoint={tmp_path / 'run'}")
    done = own(tmp_path / "predicted", tmp_path / "own.npz", *words)
    assert done.returncode == 0, done.printed
    assert [row["id"] for row in rows_of(tmp_path / "predicted")] == [str(i) for i in range(20)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"train_labels": np.arange(30) % 3, "test": pictures(10), "test_labels": np.arange(10)},
            "own.npz: the test images have class 9, those of train have 0 to 2; correct the labels",
        ),
        (
            {"train_labels": np.arange(30) % 3, "test": pictures(10)},
            "own.npz: no labels of the test images, which model=cvae needs. Add them",
        ),
        (
            {"test": pictures(10), "test_labels": np.arange(10)},
            "own.npz: no labels of the train images, which model=cvae needs. Add them",
        ),
    ],
)
def test_labels_that_do_not_fit_are_told_before_training(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "own.npz", train=pictures(30), **arrays)
    done = own(tmp_path / "run", tmp_path / "own.npz", "model=cvae")
    assert done.returncode == 2
    assert message in done.printed
    assert not list((tmp_path / "run").glob("checkpoints/*"))
