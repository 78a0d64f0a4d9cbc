"""Mirrors of the metrics log in other tools' formats; off by default: trackers=[tensorboard].

All of them write local files only: TensorBoard and Weights & Biases (offline) into the run
directory, MLflow into <output_dir>/mlflow.db, trackio into <output_dir>/trackio.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kexue_cli.check import nearest
from kexue_cli.errors import ConfigError
from kexue_cli.extras import require
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import Tracker

PROJECT = "kexue"
FLUSH_SECONDS = 2.0


def check(cfg: DictConfig) -> None:
    """Find out before any work whether the trackers asked for are there.

    Raises:
        ConfigError: a tracker that does not exist, or whose package is not installed.
    """
    for name in cfg.trackers:
        if name not in TRACKERS:
            raise ConfigError("trackers", f"there is no {name!r}. {nearest(name, set(TRACKERS))}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                "trackers",
                f"the package {name!r} is not installed: pip install 'kexue-cli[{name}]'",
            )


def start(cfg: DictConfig, directory: RunDirectory, config: dict[str, Any]) -> list[Tracker]:
    """The trackers that the configuration asks for."""
    root = Path(cfg.output_dir)
    return [TRACKERS[name](directory, root, config) for name in cfg.trackers]


class TensorBoard:
    """Event files in the run directory: `tensorboard --logdir outputs`."""

    def __init__(self, directory: RunDirectory, root: Path, config: dict[str, Any]) -> None:
        require("tensorboard", extra="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(directory.path / "tensorboard"))
        self.writer.add_text("config", f"```\n{config}\n```")

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class MLflow:
    """An SQLite store of all runs: `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db`."""

    def __init__(self, directory: RunDirectory, root: Path, config: dict[str, Any]) -> None:
        # Usage statistics would go to a server.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        require("mlflow", extra="mlflow")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        root.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(f"sqlite:///{(root / 'mlflow.db').resolve()}")
        task = str(config["task"]["name"])
        experiment = self.client.get_experiment_by_name(task)
        number = experiment.experiment_id if experiment else self.client.create_experiment(task)
        self.run_id = _remembered(directory, "mlflow") or self._create(number, directory, config)
        self.waiting: list[Any] = []
        self.flushed = time.monotonic()

    def _create(self, number: str, directory: RunDirectory, config: dict[str, Any]) -> str:
        run = self.client.create_run(number, run_name=directory.path.name)
        run_id = str(run.info.run_id)
        for key, value in _flat(config).items():
            self.client.log_param(run_id, key, str(value)[:500])
        _remember(directory, "mlflow", run_id)
        return run_id

    def log(self, step: int, values: dict[str, float]) -> None:
        """Collect; a transaction per step would cost more than the step."""
        now = int(time.time() * 1000)
        self.waiting += [self._metric(name, float(v), now, step) for name, v in values.items()]
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected; MLflow takes at most 1,000 numbers at a time."""
        for i in range(0, len(self.waiting), 1000):
            self.client.log_batch(self.run_id, metrics=self.waiting[i : i + 1000])
        self.waiting = []
        self.flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left and end the run."""
        self.flush()
        self.client.set_terminated(self.run_id)


class WeightsAndBiases:
    """Offline files in the run directory; `wandb sync <run>/wandb/offline-run-*` uploads them."""

    def __init__(self, directory: RunDirectory, root: Path, config: dict[str, Any]) -> None:
        wandb = require("wandb", extra="wandb")
        run_id = _remembered(directory, "wandb") or secrets.token_hex(4)
        _remember(directory, "wandb", run_id)
        self.run = wandb.init(
            project=PROJECT,
            name=directory.path.name,
            id=run_id,
            dir=str(directory.path),
            config=config,
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one row; train and validation numbers of a step are rows of their own."""
        self.run.log({**values, "step": step})

    def close(self) -> None:
        """Write what is left."""
        self.run.finish()


class Trackio:
    """A local SQLite file per project: `TRACKIO_DIR=outputs/trackio trackio show`."""

    def __init__(self, directory: RunDirectory, root: Path, config: dict[str, Any]) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((root / "trackio").resolve()))
        self.trackio = require("trackio", extra="trackio")
        self.trackio.init(
            project=PROJECT,
            name=directory.path.name,
            config=config,
            resume="allow",
            embed=False,
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one row."""
        self.trackio.log(values, step=step)

    def close(self) -> None:
        """Write what is left."""
        self.trackio.finish()


TRACKERS: dict[str, Callable[[RunDirectory, Path, dict[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def _remembered(directory: RunDirectory, name: str) -> str | None:
    """The tool's own number of this run, so that a resumed run goes on in the same place."""
    return directory.read_json("trackers.json").get(name)


def _remember(directory: RunDirectory, name: str, run_id: str) -> None:
    directory.write_json("trackers.json", {**directory.read_json("trackers.json"), name: run_id})


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
