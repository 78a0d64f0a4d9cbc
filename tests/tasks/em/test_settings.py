"""Settings out of range, and the words of an earlier fit that differ from it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from kexue_cli.errors import ConfigError
from tests.tasks.em.conftest import Run
from tests.tasks.em.helpers import iris

COINS = "model=coins data=coin_tosses"
ANNEALED = "model=kmeans model.method=annealed"
TABLE = "data=table data.path=t.csv"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("model.annealing=-3", "model.annealing"),
        ("model.n_components=[]", "model.n_components"),
        ("model.n_components=1..99999999999", "model.n_components"),
        ("model.n_components='²'", "model.n_components"),
        ("model.covariance=[]", "model.covariance"),
        ("model.regularisation=nan", "model.regularisation"),
        ("model.reg_covar=inf", "model.reg_covar"),
        ("model.n_init=100000000", "model.n_init"),
        ("model.tol=nan", "model.tol"),
        ("model.bootstrap=-1", "model.bootstrap"),
        ("task.n_samples=-3", "task.n_samples"),
        (f"{ANNEALED} model.rate=1.5", "model.rate"),
        (f"{ANNEALED} model.rate=0", "model.rate"),
        (f"{ANNEALED} model.final_variance=0", "model.final_variance"),
        ("model=bernoulli_mixture data=digits model.threshold=nan", "model.threshold"),
        (f"{COINS} model.biases=[0.5,1.5]", "model.biases[1]"),
        (f"{COINS} model.biases=[nan,0.5]", "model.biases[0]"),
        (f"{COINS} model.n_components=3 model.biases=[0.5]", "model.biases"),
        (f"{COINS} data.tosses=0", "data.tosses"),
        (f"{TABLE} data.divide_by=0", "data.divide_by"),
        (f"{TABLE} data.divide_by=nan", "data.divide_by"),
        (f"{TABLE} data.separator=foo", "data.separator"),
        (f"{TABLE} data.decimal=foo", "data.decimal"),
    ],
)
def test_a_setting_out_of_range_is_named_before_any_work(em: Run, words: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        em(*words.split())
    assert error.value.key == key


@pytest.mark.parametrize("word", ["model.n_components=5", "model.covariance=diag"])
def test_a_setting_that_differs_from_the_loaded_fit_is_warned_of(
    em: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    pd.DataFrame(iris()[0][:, :2], columns=["a", "b"]).to_csv(tmp_path / "t.csv", index=False)
    words = (f"data.path={tmp_path / 't.csv'}", "data=table", "task.plots=false")
    fitted = em("model.n_components=2", "model.n_init=1", *words)
    capsys.readouterr()
    em("model.n_components=2", *words, "mode=predict", f"checkpoint={fitted}")
    assert "no effect" not in capsys.readouterr().out
    em("model.n_components=2", *words, word, "mode=predict", f"checkpoint={fitted}")
    assert f"{word} has no effect" in " ".join(capsys.readouterr().out.split())
