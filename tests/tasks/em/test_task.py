"""Whole runs through the runner, in this process."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kexue_cli.errors import ConfigError, UserError
from tests.tasks.em.conftest import Run


def metrics(directory: Path, split: str = "train") -> dict[str, float]:
    found: dict[str, float] = json.loads((directory / "metrics.json").read_text())[split]
    return found


def rows_csv(folder: Path, values: np.ndarray, **extra: list[Any]) -> Path:
    frame = pd.DataFrame(values, columns=[f"c{j}" for j in range(values.shape[1])])
    frame.assign(**extra).to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def test_default_run_leaves_everything_behind(em: Run) -> None:
    directory = em()
    assert metrics(directory)["log_likelihood"] == pytest.approx(-180.1855, abs=1e-4)
    assert metrics(directory)["n_parameters"] == 44
    for name in (
        "components.csv",
        "covariances.csv",
        "restarts.csv",
        "parameters.safetensors",
        "predictions.csv",
        "plots/climb.png",
        "plots/clusters.png",
    ):
        assert (directory / name).stat().st_size > 100, name
    with (directory / "submission.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["id", "cluster", "probability_0", "probability_1", "probability_2"]
    assert len(lines) == 151
    assert sum(float(cell) for cell in lines[1][2:]) == pytest.approx(1.0)


def test_a_stored_fit_scores_predicts_and_samples_as_the_run_did(em: Run) -> None:
    first = em("task.plots=false", "model.covariance=VEV", "model.n_components=2")
    again = em("task.plots=false", "mode=evaluate", f"checkpoint={first}")
    for name in ("log_likelihood", "log_likelihood_per_row", "adjusted_rand"):
        assert metrics(again)[name] == pytest.approx(metrics(first)[name], abs=1e-6)
    predicted = em("task.plots=false", "mode=predict", f"checkpoint={first}")
    ours, theirs = (pd.read_csv(d / "predictions.csv") for d in (first, predicted))
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-9)
    drawn = em("mode=generate", f"checkpoint={first}", "task.n_samples=50")
    assert len(pd.read_csv(drawn / "samples.csv")) == 50


def test_a_range_of_models_is_compared_by_bic(em: Run) -> None:
    directory = em("model.n_components=1..3", "model.covariance=[VEV,EEE,VVV]", "model.n_init=5")
    table = pd.read_csv(directory / "model_choice.csv")
    assert len(table) == 9
    assert metrics(directory)["bic"] == pytest.approx(table["bic"].min())
    assert metrics(directory)["bic"] == pytest.approx(561.7285, abs=1e-3)  # VEV with 2
    assert (directory / "plots" / "model_choice.png").exists()


def test_bootstrap_test_tells_two_clusters_from_three(em: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(120, 1)) + 8 * generator.integers(0, 2, size=(120, 1))
    path = rows_csv(tmp_path, values)
    directory = em(
        "data=table", f"data.path={path}", "model.n_components=1..3", "model.covariance=E",
        "model.bootstrap=19", "model.n_init=3", "model.tol=1e-4", "task.plots=false",
    )  # fmt: skip
    tests = pd.read_csv(directory / "bootstrap_tests.csv")
    assert tests["p_value"][0] == pytest.approx(1 / 20)
    assert tests["p_value"][1] > 0.1


@pytest.mark.parametrize(
    "words",
    [
        ["model=kmeans"],
        ["model=kmeans", "model.method=annealed"],
        ["model=coins", "data=coin_tosses"],
        ["model=bernoulli_mixture", "data=digits"],
        ["model=gmm", "data=digits", "model.covariance=diag", "limit.rows=100"],
    ],
    ids=lambda words: " ".join(words),
)
def test_smoke_of_every_model(em: Run, words: list[str]) -> None:
    directory = em(*words, "limit.steps=20")
    assert metrics(directory)
    assert list((directory / "plots").glob("*.png"))


def test_word_counts_go_through_plsa_and_the_multinomial_mixture(em: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for document in range(30):
        words = generator.choice(10, size=4, replace=False) + 10 * (document % 2)
        lines.append("4 " + " ".join(f"{word}:{generator.integers(1, 9)}" for word in words))
    path = tmp_path / "c.ldac"
    path.write_text("\n".join(lines))
    for model in ("plsa", "multinomial_mixture"):
        directory = em(
            f"model={model}", "model.n_components=2", "data=word_counts", f"data.path={path}"
        )
        assert metrics(directory)["log_likelihood"] < 0
    assert (directory / "components.csv").exists()


def test_rows_with_gaps_and_weights_and_labels(em: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(80, 3)) + 6 * (np.arange(80) % 2)[:, None]
    values[generator.random((80, 3)) < 0.1] = np.nan
    path = rows_csv(
        tmp_path,
        values,
        w=generator.random(80).tolist(),
        label=["a" if i % 2 else "b" for i in range(80)],
    )
    directory = em(
        "data=table", f"data.path={path}", "data.weight=w", "data.label=label",
        "model.n_components=2", "model.known_labels=0.2",
    )  # fmt: skip
    assert metrics(directory)["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(10)[:, None] * np.arange(2), "constant or empty .'c0'"),
        (np.repeat([[0.0], [2.0]], 5, axis=0), "2 distinct rows"),
        (np.random.default_rng(0).normal(size=(20, 1)) @ np.ones((1, 2)), "determine each other"),
        (np.random.default_rng(0).normal(size=(3, 4)), "3 rows do not determine"),
        (np.where(np.arange(20) == 7, np.inf, np.arange(20.0)).reshape(10, 2), "infinite.*row 4"),
        (np.where(np.arange(20) // 2 == 7, np.nan, np.arange(20.0)).reshape(10, 2), "row 8 has no"),
    ],
    ids=["constant", "few distinct rows", "copied column", "few rows", "infinite", "all missing"],
)
def test_data_that_no_gaussian_mixture_fits_is_refused(
    em: Run, tmp_path: Path, values: np.ndarray, message: str
) -> None:
    path = rows_csv(tmp_path, values)
    with pytest.raises(UserError, match=message):
        em("data=table", f"data.path={path}", "model.n_components=3")


@pytest.mark.parametrize("model", ["plsa", "multinomial_mixture"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, -1], "row 3, column 'c1' has -1"),
        ([1, 0.5], "'c1' has 0.5"),
        ([0, 0], "row 3 counts"),
        ([1, np.inf], "infinite value in row 3"),
        ([1, np.nan], "missing value in row 3, column 'c1'"),
        ([1, 2], "2 distinct rows"),
    ],
    ids=["negative", "fractional", "empty", "infinite", "missing", "few distinct"],
)
def test_rows_that_are_no_word_counts_are_named(
    em: Run, tmp_path: Path, model: str, row: list[float], message: str
) -> None:
    path = rows_csv(tmp_path, np.array([[1, 2], [2, 1], row]))
    with pytest.raises(UserError, match=message):
        em(f"model={model}", "data=table", f"data.path={path}", "model.n_components=3")


@pytest.mark.parametrize("model", ["bernoulli_mixture", "kmeans"])
@pytest.mark.parametrize(("value", "found"), [(np.nan, "missing"), (np.inf, "infinite")])
def test_gaps_and_infinity_are_named_in_bits_and_by_k_means(
    em: Run, tmp_path: Path, model: str, value: float, found: str
) -> None:
    path = rows_csv(tmp_path, np.array([[1, 0], [0, 1], [1, value]]))
    with pytest.raises(UserError, match=f"{found} value in row 3, column 'c1'"):
        em(f"model={model}", "data=table", f"data.path={path}", "model.n_components=2")


def test_pixels_that_never_vary_are_left_out_and_counted(
    em: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=digits", "model.covariance=diag", "model.n_components=2", "limit.steps=5"]
    directory = em(*words)
    assert "3 of 64 pixels are the same" in " ".join(capsys.readouterr().out.split())
    assert len(pd.read_csv(directory / "components.csv").filter(like="mean").columns) == 61
    again = em(*words, "mode=predict", f"checkpoint={directory}")
    fitted, predicted = (pd.read_csv(run / "predictions.csv") for run in (directory, again))
    pd.testing.assert_frame_equal(fitted, predicted)


def test_a_copied_column_is_refused_where_rows_have_gaps(em: Run, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    values[:, 2] = 3 * values[:, 0] - 1
    values[4, 0] = np.nan
    path = rows_csv(tmp_path, values)
    with pytest.raises(UserError, match="columns 'c0', 'c2' determine each other"):
        em("data=table", f"data.path={path}", "model.n_components=2")
    em("data=table", f"data.path={path}", "model.n_components=2", "model.covariance=diag")


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (2, 40, r"3 of 3 components .*0, 1, 2; .* one value of 'code'; .* data\.label"),
        (5, 9, "too few rows: a covariance of its own over 6 columns needs 8 or more"),
    ],
)
def test_a_collapse_says_why(
    em: Run, tmp_path: Path, columns: int, rows: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = np.arange(rows) % 3
    values = np.random.default_rng(0).normal(size=(rows, columns)) + 9 * code[:, None]
    last = code.astype(float) if columns == 2 else values[:, 0] ** 2
    path = rows_csv(tmp_path, values, code=last.tolist())
    em("data=table", f"data.path={path}", "model.n_components=3", "task.plots=false")
    assert re.search(message, " ".join(capsys.readouterr().out.split()))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["model.covariance=round"], "model.covariance"),
        (["model.n_components=0"], "model.n_components"),
        (["model.start=nowhere"], "model.start"),
        (["model=kmeans", "model.n_components=1..3"], "model.n_components"),
        (["model=coins"], "data"),
        (["model=plsa"], "data"),
        (["model=multinomial_mixture", "data=digits"], "data"),
        (["model=bernoulli_mixture"], "data"),
        (["model.tol=-1"], "model.tol"),
        (["model.known_labels=2"], "model.known_labels"),
    ],
)
def test_bad_settings_name_their_key(em: Run, words: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        em(*words)


def test_unconverged_says_how_far_it_was(em: Run, capsys: pytest.CaptureFixture[str]) -> None:
    em("model.max_iter=3", "task.plots=false")
    assert "model.tol asks for 1e-06" in capsys.readouterr().out.replace("\n", " ")


def test_an_experiment_says_what_was_expected_and_what_came_out(
    em: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    em("experiment=em_coins", "task.plots=false")
    table = capsys.readouterr().out.split("Published against obtained")[1]
    assert "0.7967891" in table
    assert "0.79678905" in table  # ours, to eight digits
