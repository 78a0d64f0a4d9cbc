"""The exact numbers: maxima of the likelihood on the sets every text on mixtures uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Outcome, Settings, fit_mixture
from kexue_cli.tasks.em.rows import Rows
from tests.tasks.em.helpers import family_for, iris

SETS = {
    "faithful": ("faithful.csv", ["eruptions", "waiting"], 1.0),
    "diabetes": ("mclust_diabetes.csv", ["glucose", "insulin", "sspg"], 1.0),
    "galaxies": ("galaxies.csv", ["dat"], 1000.0),
    "acidity": ("mclust_acidity.csv", ["acidity"], 1.0),
}


def read(name: str, folder: Path) -> np.ndarray:
    if name == "iris":
        return iris()[0]
    file, columns, divisor = SETS[name]
    path = folder / "mixtures" / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    values = pd.read_csv(path)[columns].to_numpy(dtype=np.float64) / divisor
    if name == "diabetes":
        values[103, 1] = 455.0  # mclust's manual corrects this misprint of 45
    return values


def best_of(values: np.ndarray, model: str, components: int, restarts: int) -> Outcome:
    family, rows = family_for(values, model, components, prior=1e-6)
    settings = Settings(tol=1e-9, max_iter=20_000, scale=np.sqrt(family.variances))
    return fit_mixture(family, rows, Engine(), settings, list(range(restarts)))


@pytest.mark.parametrize(
    ("name", "model", "components", "expected"),
    [
        ("faithful", "VVV", 1, -1289.7967),
        ("faithful", "VVV", 2, -1130.2640),
        ("faithful", "EEE", 2, -1140.1868),
        ("faithful", "EEE", 3, -1126.3159),
        ("faithful", "VVI", 2, -1147.8064),
        ("faithful", "VII", 2, -1709.5293),
        ("iris", "VVV", 2, -214.3547),
        ("iris", "VVV", 3, -180.1855),
        ("iris", "EEE", 3, -256.3540),
        ("iris", "VVI", 3, -306.8605),
        ("iris", "VII", 3, -384.3141),
        ("iris", "VEV", 2, -215.72597),
        ("iris", "VEV", 3, -186.07328),
        ("diabetes", "VVV", 3, -2295.0935),
        ("diabetes", "EEE", 3, -2409.0800),
        ("galaxies", "VII", 3, -203.1792),
        ("galaxies", "EII", 3, -212.3519),
        ("acidity", "EII", 2, -185.9493),
        ("acidity", "VII", 3, -178.7544),
    ],
)
def test_maximum_of_the_likelihood(
    name: str, model: str, components: int, expected: float, data_dir: Path
) -> None:
    values = read(name, data_dir)
    outcome = best_of(values, model, components, restarts=30)
    assert not outcome.collapsed.any()
    assert outcome.log_likelihood == pytest.approx(expected, abs=1e-4)


def test_criteria_of_iris_vev() -> None:
    outcome = best_of(iris()[0], "VEV", 2, restarts=10)
    assert outcome.family.n_parameters == 26
    assert outcome.bic == pytest.approx(561.72846, abs=2e-4)
    assert outcome.aic == pytest.approx(2 * 215.72597 + 52, abs=2e-4)


def test_icl_of_acidity_equals_mclust(data_dir: Path) -> None:
    outcome = best_of(read("acidity", data_dir), "EII", 2, restarts=10)
    assert outcome.bic == pytest.approx(392.0723, abs=1e-3)
    assert outcome.icl == pytest.approx(398.5554, abs=2e-2)  # mclust's own fit stops early


@pytest.mark.parametrize("factor", [1e-3, 1e6])
def test_units_do_not_change_the_clusters(factor: float) -> None:
    values, _ = iris()
    first, second = (best_of(scale * values, "VVV", 3, 5) for scale in (1.0, factor))
    assert first.restart == second.restart
    np.testing.assert_allclose(first.count, second.count, rtol=1e-6)
    shift = values.size * np.log(factor)
    assert second.log_likelihood == pytest.approx(first.log_likelihood - shift, abs=1e-5)


def test_duplicated_rows_are_called_a_collapse_and_rank_behind_sound_restarts() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(size=(200, 2)), np.full((40, 2), 3.0)])
    alone = best_of(values, "VVV", 5, restarts=1)
    assert np.isfinite(alone.log_likelihood)
    many = best_of(values, "VVV", 2, restarts=10)
    assert many.collapsed.sum() <= 1  # the spike itself may be a component; nothing else is
    assert best_of(values, "EEE", 2, restarts=10).collapsed.sum() == 0


def test_fewer_rows_than_columns_give_finite_numbers_and_a_collapse() -> None:
    values = np.random.default_rng(1).normal(size=(12, 6))
    outcome = best_of(values, "VVV", 4, restarts=3)
    assert np.isfinite(outcome.log_likelihood)
    assert outcome.collapsed.any()


def test_rows_object_knows_its_weight() -> None:
    rows = Rows(np.zeros((3, 1)), np.zeros(1), np.array([1.0, 2.0, 0.5]))
    assert rows.total_weight == 3.5
