"""Weights stand for repeated rows in every model, whatever they sum to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.checks import distinct_rows
from kexue_cli.tasks.em.config import COVARIANCES
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.starts import centres_of
from tests.tasks.em.conftest import Run


def clusters(rows: int = 90) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(rows, 3)) + 5 * (np.arange(rows) % 3)[:, None]


def train_metrics(directory: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((directory / "metrics.json").read_text())["train"]
    return found


def fitted(em: Run, path: Path, frame: pd.DataFrame, *words: str) -> dict[str, float]:
    frame.to_csv(path, index=False)
    weight = ["data.weight=w"] if "w" in frame else []
    return train_metrics(em("data=table", f"data.path={path}", *weight, "task.plots=false", *words))


@pytest.mark.parametrize("covariance", COVARIANCES[5:19])
def test_weights_of_a_gaussian_mixture_are_repeated_rows(
    em: Run, tmp_path: Path, covariance: str
) -> None:
    times = np.random.default_rng(1).integers(0, 4, size=90)
    frame = pd.DataFrame(clusters(), columns=["a", "b", "c"])
    repeated = frame.loc[frame.index.repeat(times)]
    words = ["model.n_init=5", f"model.covariance={covariance}"]
    weighted = fitted(em, tmp_path / "w.csv", frame.assign(w=times), *words)
    plain = fitted(em, tmp_path / "r.csv", repeated, *words)
    for name in ("log_likelihood", "bic", "aic", "icl"):
        assert weighted[name] == pytest.approx(plain[name], abs=1e-4)


@pytest.mark.parametrize("model", ["kmeans", "bernoulli_mixture", "multinomial_mixture", "plsa"])
def test_weights_of_other_models_are_repeated_rows(em: Run, tmp_path: Path, model: str) -> None:
    generator = np.random.default_rng(1)
    bits = generator.random((60, 8)) < np.where(np.arange(60)[:, None] % 2, 0.8, 0.2)
    bits[:, 0] = True  # no document is empty
    frame = pd.DataFrame(bits.astype(int), columns=list("abcdefgh"))
    times = generator.integers(1, 4, size=60)
    words = [f"model={model}", "model.n_components=2", "model.n_init=10", "model.max_iter=3000"]
    weighted = fitted(em, tmp_path / "w.csv", frame.assign(w=times), *words)
    plain = fitted(em, tmp_path / "r.csv", frame.loc[frame.index.repeat(times)], *words)
    name = "inertia" if model == "kmeans" else "log_likelihood"
    assert weighted[name] == pytest.approx(plain[name], rel=2e-3 if model == "plsa" else 1e-5)


def test_weights_that_sum_to_one_find_the_same_mixture(em: Run, tmp_path: Path) -> None:
    frame = pd.DataFrame(clusters(), columns=["a", "b", "c"])
    plain = fitted(em, tmp_path / "r.csv", frame)
    shares = fitted(em, tmp_path / "w.csv", frame.assign(w=1 / 90))
    assert shares["log_likelihood_per_row"] == pytest.approx(
        plain["log_likelihood_per_row"], abs=1e-5
    )


def test_rows_without_weight_start_no_component() -> None:
    values = np.concatenate([clusters(), 1e3 + np.zeros((5, 3))])
    weights = np.concatenate([np.ones(90), np.zeros(5)])
    rows = Rows(values, values[:90].mean(axis=0), weights)
    for start in ("k-means++", "k-means", "points"):
        centres = centres_of(start, rows, np.ones(3), 3, [0, 1, 2])
        assert np.abs(centres).max() < 100


def test_rows_without_weight_are_not_counted_as_distinct() -> None:
    values = np.arange(6.0)[:, None]
    assert distinct_rows(values, 6) == 6
    assert distinct_rows(values, 6, np.array([1.0, 0, 0, 2, 0, 0])) == 2


def test_a_document_of_weight_zero_is_named(em: Run, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [2, 1, 1], "w": [1, 0, 2]})
    with pytest.raises(UserError, match="row 2 has weight 0"):
        fitted(em, tmp_path / "t.csv", frame, "model=plsa", "model.n_components=2")
