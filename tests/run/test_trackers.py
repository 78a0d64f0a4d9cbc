from __future__ import annotations

import importlib.util
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kexue_cli.errors import ConfigError
from kexue_cli.run import trackers
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import MetricsLog

CONFIG: dict[str, Any] = {"task": {"name": "lamost"}, "optim": {"lr": 0.001}, "seed": 3}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def log_three_steps(tmp_path: Path, name: str) -> RunDirectory:
    cfg = OmegaConf.create({"trackers": [name], "output_dir": str(tmp_path / "outputs")})
    trackers.check(cfg)
    directory = RunDirectory.create(tmp_path / "outputs", "lamost", "conv1d_res")
    log_steps(cfg, directory, range(3))
    return directory


def log_steps(cfg: Any, directory: RunDirectory, steps: range) -> None:
    log = MetricsLog(None, trackers.start(cfg, directory, CONFIG))
    for step in steps:
        log(step=step, split="train", loss=1.0 / (step + 1))
    log.close()


def test_off_by_default(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"trackers": [], "output_dir": "outputs"})
    assert trackers.start(cfg, RunDirectory(tmp_path), CONFIG) == []


def test_an_unknown_tracker_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean tensorboard"):
        trackers.check(OmegaConf.create({"trackers": ["tensorbord"]}))


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"kexue-cli\[wandb\]"):
        trackers.check(OmegaConf.create({"trackers": ["wandb"]}))


def test_tensorboard_has_every_point(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    directory = log_three_steps(tmp_path, "tensorboard")
    events = EventAccumulator(str(directory.path / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert points == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]


def test_mlflow_has_every_point_and_goes_on_after_resume(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    directory = log_three_steps(tmp_path, "mlflow")
    cfg = OmegaConf.create({"trackers": ["mlflow"], "output_dir": str(tmp_path / "outputs")})
    log_steps(cfg, directory, range(3, 5))
    database = sqlite3.connect(tmp_path / "outputs" / "mlflow.db")
    rows = database.execute("select step, value from metrics where key = 'train/loss'").fetchall()
    params = dict(database.execute("select key, value from params").fetchall())
    runs = database.execute("select count(*) from runs").fetchone()
    database.close()
    assert sorted(rows) == [(s, pytest.approx(1 / (s + 1))) for s in range(5)]
    assert params["optim.lr"] == "0.001"
    assert runs == (1,)


def test_wandb_writes_offline_into_the_run_directory(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    directory = log_three_steps(tmp_path, "wandb")
    (file,) = directory.path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60  # a process of wandb's own writes it, maybe after we closed
    while file.stat().st_size <= 500 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert file.stat().st_size > 500
    assert "wandb" in json.loads((directory.path / "trackers.json").read_text())


def test_trackio_has_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # trackio reads TRACKIO_DIR when it is imported: not before it is set.
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    log_three_steps(tmp_path, "trackio")
    (path,) = (tmp_path / "trackio").glob("*.db")
    database = sqlite3.connect(path)
    count = database.execute("select count(*) from metrics").fetchone()
    database.close()
    assert count == (3,)
