"""The unit of the data is the user's choice; only where squares are lost is it refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.kmeans import lloyd
from tests.tasks.em.conftest import Run
from tests.tasks.em.helpers import iris
from tests.tasks.em.test_task import metrics, rows_csv

WORDS = ("data=table", "model.n_components=2", "model.n_init=2", "task.plots=false")


@pytest.mark.parametrize("scale", [1e-17, 1e-100, 1e60])
def test_a_mixture_is_the_same_in_any_unit(em: Run, tmp_path: Path, scale: float) -> None:
    found = []
    for unit in (1.0, scale):
        path = rows_csv(tmp_path, iris()[0][:, :2] * unit)
        directory = em(*WORDS, f"data.path={path}")
        found.append(pd.read_csv(directory / "predictions.csv")["prediction"])
    assert metrics(directory)["n_components"] == 2
    assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("scale", [1e-100, 1e139])
def test_k_means_takes_the_same_path_in_any_unit(scale: float) -> None:
    values = iris()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (lloyd(values * unit, values[[0, 60, 120]] * unit) for unit in (1.0, scale))
    assert one.labels.tolist() == other.labels.tolist()
    assert other.inertia / scale**2 == pytest.approx(one.inertia)


@pytest.mark.parametrize("model", ["gmm", "kmeans"])
@pytest.mark.parametrize(
    ("scale", "message"), [(1e300, "row 1, column 'c0'.* overflow"), (1e-300, "squares .*vanish")]
)
def test_values_whose_squares_are_lost_are_refused(
    em: Run, tmp_path: Path, model: str, scale: float, message: str
) -> None:
    path = rows_csv(tmp_path, iris()[0][:, :2] * np.array([scale, scale]))
    with pytest.raises(UserError, match=message):
        em(*WORDS, f"model={model}", f"data.path={path}")


def test_a_column_that_rounding_alone_varies_is_constant(em: Run, tmp_path: Path) -> None:
    values = np.array(iris()[0][:, :2])
    values[:, 1] = 1e-17
    values[::2, 1] *= 1 + 2e-16
    with pytest.raises(UserError, match=r"1 columns are constant or empty .'c1'"):
        em(*WORDS, f"data.path={rows_csv(tmp_path, values)}")
