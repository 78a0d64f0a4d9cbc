"""A run that is stopped in the middle of its fit goes on bit for bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kexue_cli.errors import Interrupted, UserError
from kexue_cli.tasks.em import session as session_module
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.rows import Rows
from kexue_cli.tasks.em.session import Session
from tests.tasks.em.conftest import Run

CASES = {
    "restarts": ["model.n_init=4"],
    "aitken": ["model.stop=aitken", "model.n_init=2"],
    "model choice": ["model.n_components=1..3", "model.covariance=[EEE,VVE]", "model.n_init=2"],
    "float32": ["model.dtype=float32", "model.n_init=2"],
    "stochastic": ["model.algorithm=stochastic", "model.n_init=2"],
    "incremental": ["model.batch_rows=40", "model.n_init=1", "model.max_iter=50"],
    "annealed": ["model.annealing=10", "model.n_init=2"],
    "k-means": ["model=kmeans", "model.n_init=4"],
    "k-means limit": ["model=kmeans", "model.method=annealed", "model.n_init=2"],
    "bernoulli": ["model=bernoulli_mixture", "data=digits", "model.n_components=4"],
    "streamed": ["data=table", "data.path=rows.npy", "model.n_init=2", "model.start=random"],
    "gaps": ["data=table", "data.path=gaps.npy", "model.n_init=2", "model.max_iter=40"],
    "topics": ["model=plsa", "data=word_counts", "data.path=counts.ldac", "model.n_init=2"],
    "bootstrap": ["model.n_components=1..2", "model.bootstrap=3", "model.covariance=EEE",
                  "model.n_init=2"],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(3000, 3)) + 3 * generator.integers(0, 3, size=(3000, 1))
    np.save(tmp_path / "rows.npy", rows)
    rows[generator.random(rows.shape) < 0.1] = np.nan
    np.save(tmp_path / "gaps.npy", rows[:300][~np.isnan(rows[:300]).all(axis=1)])
    counts = generator.poisson(0.7, size=(40, 30))
    counts[:, 0] = 1
    lines = [
        f"{(row > 0).sum()} " + " ".join(f"{j}:{row[j]}" for j in np.flatnonzero(row))
        for row in counts
    ]
    (tmp_path / "counts.ldac").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    # many slices even of few rows, so that a stop falls into the middle of a pass
    monkeypatch.setattr("kexue_cli.tasks.em.rows.SLICE_BYTES", 20_000)
    return tmp_path


def stopping(monkeypatch: pytest.MonkeyPatch, after: int, how: Callable[[], None]) -> None:
    """Call `how` when the session has logged `after` lines."""
    log = Session.log

    def counted(self: Session, values: dict[str, float]) -> None:
        log(self, values)
        if len(self.history) == after:
            how()

    monkeypatch.setattr(Session, "log", counted)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def same(first: Any, second: Any) -> None:
    """Equal to the last bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            same(value, second[key])
    else:
        assert first == second


def fitted(directory: Path) -> Any:
    return torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["state"]["task"]


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_fit_goes_on_bit_for_bit(
    name: str, em: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["task.plots=false", *CASES[name]]
    whole = em(*words, "run_dir=whole")
    lines = (whole / "metrics.jsonl").read_text().splitlines()
    with monkeypatch.context() as patch:
        stopping(patch, max(1, len(lines) * 2 // 3), terminate)
        with pytest.raises(Interrupted):
            em(*words, "run_dir=stopped")
    record = json.loads((folder / "stopped" / "run.json").read_text())
    assert record["status"] == "interrupted"
    resumed = em(*words, "resume=stopped")
    same(fitted(resumed), fitted(whole))
    assert (resumed / "metrics.jsonl").read_text().splitlines() == lines
    assert (resumed / "metrics.json").read_text() == (whole / "metrics.json").read_text()
    for table in ("restarts.csv", "model_choice.csv", "bootstrap_tests.csv", "predictions.csv"):
        if (whole / table).exists():
            pd.testing.assert_frame_equal(
                pd.read_csv(resumed / table), pd.read_csv(whole / table), check_exact=True
            )


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    em: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill -9 leaves it: nothing is written when it ends."""
    monkeypatch.setattr(session_module, "SAVE_SECONDS", 0.0)
    whole = em("task.plots=false", "model.n_init=2", "run_dir=whole")

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        stopping(patch, 21, kill)
        with pytest.raises(Killed):
            em("task.plots=false", "model.n_init=2", "run_dir=stopped")
    resumed = em("task.plots=false", "model.n_init=2", "resume=stopped")
    same(fitted(resumed), fitted(whole))
    lines = [(run / "metrics.jsonl").read_text() for run in (resumed, whole)]
    assert lines[0] == lines[1]


def test_a_finished_run_is_not_fitted_again(em: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = em("task.plots=false", "model.n_init=2")
    before = (first / "metrics.json").read_text()
    passes = []
    expectation = Engine.expectation

    def counted(self: Engine, rows: Rows, *rest: Any, **more: Any) -> Any:
        passes.append(1)
        return expectation(self, rows, *rest, **more)

    monkeypatch.setattr(Engine, "expectation", counted)
    em("task.plots=false", "model.n_init=2", f"resume={first}")
    assert len(passes) <= 2  # the two that measure the chosen restart
    assert (first / "metrics.json").read_text() == before


def test_going_on_says_which_settings_are_new(em: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("task.plots=false", "model.n_init=2")
    first = em(*words)
    em(*words, f"resume={first}")
    assert "changed since" not in capsys.readouterr().out
    em(*words, "model.tol=1e-4", f"resume={first}")
    said = " ".join(capsys.readouterr().out.split())
    assert "changed since the run began: model.tol=0.0001 (was " in said
    assert "; what is done is not done again" in said


def test_an_unfinished_fit_is_no_model_to_predict_with(
    em: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 20, terminate)
        with pytest.raises(Interrupted):
            em("run_dir=stopped")
    with pytest.raises(UserError, match="resume="):
        em("mode=predict", "checkpoint=stopped")
