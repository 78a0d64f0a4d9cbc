"""The training loop of the gradient tasks.

`fit` takes stages one after the other. It evaluates, keeps the best and the last checkpoint, stops
at signals, goes on from a checkpoint bit for bit, and gives the same losses on several ranks as on
one.
It calls back into a task only through `Stage.loss`, `Stage.batches`, `evaluate`, and to save and
load the task's state.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kexue_cli.config import Precision
from kexue_cli.errors import Interrupted, UserError
from kexue_cli.run import checkpoint
from kexue_cli.run.console import Meter, show
from kexue_cli.run.context import Context
from kexue_cli.run.dry_run import Planned
from kexue_cli.run.seeds import global_rng_state, set_global_rng_state
from kexue_cli.tasks.base import Task
from kexue_cli.train.ema import WeightAverage
from kexue_cli.train.gradients import sum_over_ranks_
from kexue_cli.train.optim import lr_factor, set_lr
from kexue_cli.train.running import RunningMeans
from kexue_cli.train.sharding import optimizer_state_for, whole
from kexue_cli.train.stage import Loss, Stage

Evaluate = Callable[[], dict[str, float]]


@dataclass
class Progress:
    """Where the loop is; what a resumed run needs beside weights and optimisers."""

    stage: int = 0
    step: int = 0  # optimiser steps done in this stage
    total_steps: int = 0  # of all stages
    best: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    evaluation_due: bool = False  # a signal came while the weights of this step were evaluated


def fit(
    ctx: Context, task: Task, model: nn.Module, stages: list[Stage], evaluate: Evaluate
) -> Progress:
    """Train `model` through all stages; at the end the task holds the best weights.

    Args:
        task: owns the model; its state goes into checkpoints, its `primary` metric picks the best.
        evaluate: metrics of the validation split under the model's present weights.

    Raises:
        Interrupted: stopped by a signal, after checkpoints/last.pt was written.
        UserError: the loss is no longer finite; the last good checkpoint is kept.
    """
    if ctx.cfg.dry_run:
        raise Planned(model, stages)
    loop = _Loop(ctx, task, model, stages, evaluate)
    with ctx.stop.deferred():
        loop.run()
    return loop.progress


class _Loop:
    def __init__(
        self, ctx: Context, task: Task, model: nn.Module, stages: list[Stage], evaluate: Evaluate
    ) -> None:
        self.ctx, self.task, self.model, self.evaluate = ctx, task, model, evaluate
        self.stages = stages
        self.progress = Progress()
        self.means = RunningMeans()
        self.compiled: Any = torch.compile(model) if ctx.cfg.device.compile else model
        self.optimizers: list[torch.optim.Optimizer] = []
        self.average: WeightAverage | None = None
        self.scaler = torch.amp.GradScaler(
            ctx.device.type, enabled=ctx.device.precision is Precision.fp16
        )
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Take the stages from where the checkpoint, if any, left off."""
        saved = None if self.ctx.resume is None else self.ctx.resume["loop"]
        if saved is None:
            self.ctx.seeds.seed_global(f"fit rank {self.ctx.ranks.rank}")
        else:
            self.progress = Progress(**saved["progress"])
        while self.progress.stage < len(self.stages):
            stage = self.stages[self.progress.stage]
            self._begin(stage, saved)
            saved = None
            self._run_stage(stage)
            self.progress.stage += 1
            self.progress.step = self.progress.evaluations_without_gain = 0
        self._take_best()
        self.model.eval()

    def _begin(self, stage: Stage, saved: dict[str, Any] | None) -> None:
        """Fresh optimisers for a new stage, or those of the checkpoint."""
        if saved is None and stage.from_best and self.progress.best is not None:
            self._take_best()
        if saved is not None:
            assert self.ctx.resume is not None
            self.task.load_state_dict(self.ctx.resume["task"])
        self.optimizers = stage.make_optimizers(self.model, stage.optim)
        decay = stage.optim.ema_decay
        self.average = (
            None if decay is None else WeightAverage(self.model, decay, stage.optim.ema_debiased)
        )
        if saved is not None:
            self._restore(saved)

    def _restore(self, saved: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state_for(optimizer, state))
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.scaler.load_state_dict(saved["scaler"])
        self.means = RunningMeans(**saved["means"])
        set_global_rng_state(saved["rng"][self.ctx.ranks.rank])

    def _run_stage(self, stage: Stage) -> None:
        progress = self.progress
        batches = stage.batches(progress.step * stage.optim.accumulate)
        self.model.train()
        console = self.ctx.console
        with console.progress(stage.steps, stage.name, stage.unit, progress.step) as meter:
            while progress.step < stage.steps or progress.evaluation_due:
                if not progress.evaluation_due:
                    count = self._train_step(stage, batches)
                    progress.step += 1
                    progress.total_steps += 1
                    self._log(stage)
                    meter.advance(1, items=count, **self.means.latest)
                last = progress.step == stage.steps
                if last or progress.step % stage.evaluate_every == 0:
                    try:
                        self._evaluate_and_save(stage, meter)
                    except Interrupted:
                        self._save()
                        raise
                    if self._out_of_patience(stage):
                        break
                self._save_if_due()
                if self.ctx.stop.requested:
                    self._save()
                    assert self.ctx.stop.signal_number is not None
                    raise Interrupted(self.ctx.stop.signal_number)
            self.ctx.record.content["throughput"] = {
                **self.ctx.record.content.get("throughput", {}),
                stage.name: {"value": meter.rate, "unit": f"{stage.unit}/s"},
            }

    def _train_step(self, stage: Stage, batches: Iterator[Any]) -> float:
        """One optimiser step; returns the number of items on all ranks."""
        losses = []
        for _ in range(stage.optim.accumulate):
            with self.ctx.device.autocast():
                loss = stage.loss(self.compiled, next(batches))
            losses.append(loss)
            alone = stage.optim.accumulate == 1 and self.ctx.ranks.size == 1
            self.scaler.scale(loss.sum / loss.count if alone else loss.sum).backward()
        count = sum(loss.count for loss in losses)
        if self.ctx.ranks.size > 1:
            count = self._agree(count)
        if not alone:
            sum_over_ranks_(self.model, self.ctx.ranks, 1.0 / count)
        self.means.add(losses, count, self.ctx.ranks)
        self._apply_gradients(stage)
        return count

    def _agree(self, count: float) -> float:
        """Items on all ranks; a stop asked of one rank becomes a stop of all."""
        asked = float(self.ctx.stop.signal_number or 0)
        device = self.ctx.device.torch_device if self.ctx.device.type == "cuda" else "cpu"
        both = torch.zeros(2, self.ctx.ranks.size, dtype=torch.float64, device=device)
        both[0, self.ctx.ranks.rank], both[1, self.ctx.ranks.rank] = count, asked
        self.ctx.ranks.all_reduce_(both)
        signal_number = int(both[1].max())
        if signal_number:
            self.ctx.stop.request(signal_number)
        return float(both[0].sum())

    def _apply_gradients(self, stage: Stage) -> None:
        set_lr(self.optimizers, lr_factor(stage.optim, self.progress.step, stage.steps))
        if stage.optim.clip_norm is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), stage.optim.clip_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def _log(self, stage: Stage) -> None:
        """Log the means of the last steps; stop where one of them is not a finite number."""
        due = not self.progress.step % stage.log_every or self.progress.step == stage.steps
        if due or self.ctx.device.type == "cpu":  # elsewhere looking means waiting
            self._check_finite()
        if not due:
            return
        values = self.means.take()
        lr = self.optimizers[0].param_groups[0]["lr"]
        self.ctx.log(
            step=self.progress.total_steps, split="train", stage=stage.name, lr=lr, **values
        )

    def _check_finite(self) -> None:
        bad = self.means.not_finite()
        if bad:
            raise UserError(self._not_finite(self.stages[self.progress.stage], bad))

    def _not_finite(self, stage: Stage, bad: list[str]) -> str:
        last = self.ctx.directory.path / "checkpoints" / "last.pt"
        kept = f"The last good checkpoint is {last}" if last.exists() else "No checkpoint yet"
        return (
            f"{', '.join(bad)} is not a finite number at step {self.progress.step} of stage "
            f"{stage.name!r}. {kept}. Try a smaller optim.lr or optim.clip_norm=1"
        )

    def _evaluate_and_save(self, stage: Stage, meter: Meter) -> None:
        progress, metric = self.progress, self.task.primary
        with self._evaluated_weights():
            values = self.ctx.ranks.broadcast_object(self._evaluated())
            self.ctx.log(step=progress.total_steps, split=metric.split, stage=stage.name, **values)
            value = values.get(metric.name, math.nan)
            progress.evaluations_without_gain += 1
            if metric.is_better(value, progress.best):
                progress.best, progress.best_step = value, progress.total_steps
                progress.evaluations_without_gain = 0
                self.ctx.save_checkpoint({"task": self.task.state_dict()}, "best")
        shown = {f"{metric.split}/{metric.name}": value, "best": progress.best}
        meter.show(**{name: v for name, v in shown.items() if v is not None})
        self.ctx.console.to_log(
            f"{stage.name} step {progress.step}: "
            + "  ".join(f"{name} {show(v)}" for name, v in values.items())
        )
        self._save()

    def _evaluated(self) -> dict[str, float]:
        """Metrics; where the task stops at a signal, the next run begins with this evaluation."""
        self.progress.evaluation_due = True
        values = self.evaluate()
        self.progress.evaluation_due = False
        return values

    @contextlib.contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        """Averaged weights if there are any, no dropout, and random numbers left as they were."""
        devices = [self.ctx.device.torch_device] if self.ctx.device.type == "cuda" else []
        averaged = self.average.applied() if self.average else contextlib.nullcontext()
        self.model.eval()
        with torch.random.fork_rng(devices), averaged:
            yield
        self.model.train()

    def _out_of_patience(self, stage: Stage) -> bool:
        stop = stage.patience is not None and (
            self.progress.evaluations_without_gain >= stage.patience
        )
        if stop:
            self.ctx.console.say(
                f"{stage.name}: no gain in {stage.patience} evaluations, "
                f"stopped at step {self.progress.step} of {stage.steps}"
            )
        return stop

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at > 60 * self.ctx.cfg.checkpoint_minutes:
            self._save()

    def _save(self) -> None:
        """Write last.pt: all that a run needs to go on bit for bit."""
        self._check_finite()  # what is kept is good
        rng = self.ctx.ranks.gather_objects(global_rng_state())
        state = {
            "progress": vars(self.progress),
            "optimizers": whole([optimizer.state_dict() for optimizer in self.optimizers]),
            "average": None if self.average is None else whole(self.average.state_dict()),
            "scaler": self.scaler.state_dict(),
            "means": vars(self.means),
            "rng": rng,
        }
        self.ctx.save_checkpoint({"task": self.task.state_dict(), "loop": state})
        self.saved_at = time.monotonic()

    def _take_best(self) -> None:
        """Load the best weights so far, if any evaluation gave a number."""
        self.ctx.ranks.barrier()
        if self.progress.best is None:
            return
        path = self.ctx.directory.path / "checkpoints" / "best.pt"
        state = checkpoint.load(path, self.ctx.cfg.task.name, self.ctx.cfg.model.name)
        self.task.load_state_dict(state["task"])


__all__ = ["Evaluate", "Loss", "Progress", "Stage", "fit"]
