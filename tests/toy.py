"""A task of a few lines with a real model, to test loop and runner without any real task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kexue_cli.config import OptimConfig, RunConfig, plain
from kexue_cli.run import checkpoint
from kexue_cli.run.console import Console
from kexue_cli.run.context import Context
from kexue_cli.run.device import choose
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import MetricsLog
from kexue_cli.run.ranks import Ranks
from kexue_cli.run.record import RunRecord
from kexue_cli.run.seeds import Seeds
from kexue_cli.run.signals import StopFlag
from kexue_cli.tasks.base import Metric, Task
from kexue_cli.train.stage import Loss, Stage


def toy_config(**changes: Any) -> DictConfig:
    """A whole configuration; `changes` are dotted keys with __ for the dot."""
    cfg = OmegaConf.structured(RunConfig)
    for group in ("task", "model", "data"):
        cfg[group] = {"name": f"toy_{group}"}
    cfg.optim = OmegaConf.structured(OptimConfig)
    cfg.device = {"name": "cpu", "threads": 1, "compile": False, "deterministic": True}
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    return cfg


def toy_context(
    folder: Path, resume: Path | None = None, ranks: Ranks | None = None, **changes: Any
) -> Context:
    """A context as the runner makes it, in a new directory or one that goes on."""
    cfg = toy_config(**changes)
    ranks = ranks or Ranks()
    directory = RunDirectory(resume) if resume else RunDirectory.create(folder, "toy", "toy")
    log = MetricsLog(directory.path / "metrics.jsonl" if ranks.is_main else None)
    state = None
    if resume is not None:
        state = checkpoint.load(resume / "checkpoints" / "last.pt", "toy_task", "toy_model")
        log.rewind(state["metrics_position"])
    return Context(
        cfg=cfg,
        directory=directory,
        record=RunRecord.start(directory, plain(cfg), []),
        log=log,
        device=choose(cfg),
        seeds=Seeds(int(cfg.seed)),
        stop=StopFlag(),
        ranks=ranks,
        console=Console(quiet=True),
        resume=state,
    )


class ToyTask(Task):
    """Regression on 256 rows of noise with a dropout network; fast and far from converged."""

    primary = Metric("mse", "min")

    def __init__(self, cfg: DictConfig, dropout: float = 0.2) -> None:
        super().__init__(cfg)
        generator = np.random.default_rng(0)
        self.x = torch.tensor(generator.normal(size=(256, 5)), dtype=torch.float32)
        self.y = (self.x.sum(1, keepdim=True)) ** 2
        torch.manual_seed(int(cfg.seed))
        self.model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.stop_at: int | None = None

    def prepare(self, ctx: Context) -> None:
        ctx.fingerprint(self.x.numpy())

    def stages(
        self, ctx: Context, steps: int = 30, batch_size: int = 16, **settings: Any
    ) -> list[Stage]:
        """Two stages over random rows; the second starts from the best weights."""
        optim = OmegaConf.to_object(ctx.cfg.optim)
        assert isinstance(optim, OptimConfig)

        def batches(first: int) -> Iterator[torch.Tensor]:
            step = first
            while True:
                if step == self.stop_at:
                    ctx.stop.request(15)
                rows = np.random.default_rng([1, step]).integers(0, len(self.x), batch_size)
                yield torch.tensor(rows[ctx.ranks.slice(batch_size)])
                step += 1

        common = {"loss": self.loss, "batches": batches, "evaluate_every": 12, "optim": optim}
        return [
            Stage("one", steps, **{**common, **settings}),
            Stage("two", steps, **{**common, **settings}, from_best=True),
        ]

    def loss(self, model: nn.Module, rows: torch.Tensor) -> Loss:
        """Squared error, summed."""
        error = (model(self.x[rows]) - self.y[rows]) ** 2
        return Loss(error.sum(), len(rows), {"absolute": error.detach().sqrt().sum()})

    def fit(self, ctx: Context) -> None:
        from kexue_cli.train.loop import fit

        fit(ctx, self, self.model, self.stages(ctx), lambda: self.evaluate(ctx, "valid"))

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        with torch.no_grad():
            return {"mse": float(((self.model(self.x) - self.y) ** 2).mean())}

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checkpoint.load_weights(self.model, state["model"], "checkpoint")
