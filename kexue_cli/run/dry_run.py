"""`--dry-run`: what would run and what it would cost, from the real data and the real model.

Data are prepared and one step of every stage is taken; nothing is kept.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torch import nn

from kexue_cli.run.record import peak_memory_bytes

if TYPE_CHECKING:
    from kexue_cli.run.context import Context
    from kexue_cli.tasks.base import Task
    from kexue_cli.train.stage import Stage

MIB = 2**20
# Numbers an optimiser keeps per parameter, beside weight and gradient.
STATES_PER_PARAMETER = {"sgd": 1, "muon": 1, "adafactor": 0}
TIMED_STEPS = 2


class Planned(Exception):
    """Raised by the training loop of a dry run instead of training."""

    def __init__(self, model: nn.Module, stages: list[Stage]) -> None:
        super().__init__("dry run")
        self.model = model
        self.stages = stages


def say_cost(task: Task, ctx: Context) -> None:
    """Print parameters, memory, steps and the time they will take."""
    try:
        if _trains_by_gradient(ctx):
            task.fit(ctx)
        models = [value for value in vars(task).values() if isinstance(value, nn.Module)]
        rows = [_model_row(type(model).__name__, model, ctx) for model in models]
        ctx.console.table("Cost", rows)
    except Planned as planned:
        ctx.console.table("Cost", [_model_row(type(planned.model).__name__, planned.model, ctx)])
        ctx.console.table("Stages", [_stage_row(ctx, planned.model, s) for s in planned.stages])
    ctx.console.say(f"memory of the process so far: {peak_memory_bytes() / MIB:.0f} MiB")
    ctx.console.say("Dry run: nothing was trained and nothing was kept.")


def _trains_by_gradient(ctx: Context) -> bool:
    from kexue_cli.config import Mode

    return ctx.cfg.mode is Mode.train and "lr" in ctx.cfg.optim


def _model_row(name: str, model: nn.Module, ctx: Context) -> dict[str, Any]:
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    per_parameter = 1 + STATES_PER_PARAMETER.get(str(ctx.cfg.optim.get("name")), 2)
    training = sum(p.numel() * p.element_size() for p in trained) * per_parameter
    return {
        "model": name,
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "weights MiB": weights / MIB,
        "gradients and optimiser MiB": training / MIB,
    }


def _stage_row(ctx: Context, model: nn.Module, stage: Stage) -> dict[str, Any]:
    """Steps of a stage, and their time from a few taken here (the first one only warms up)."""
    batches = stage.batches(0)
    items, begun = 0.0, time.monotonic()
    for step in range(TIMED_STEPS + 1):
        if step == 1:
            items, begun = 0.0, time.monotonic()
        for _ in range(stage.optim.accumulate):
            with ctx.device.autocast():
                loss = stage.loss(model, next(batches))
            loss.sum.backward()
            items += float(loss.count)
        model.zero_grad(set_to_none=True)
    seconds = (time.monotonic() - begun) / TIMED_STEPS
    return {
        "stage": stage.name,
        "steps": stage.steps,
        f"{stage.unit} per step": items / TIMED_STEPS,
        "seconds per step": seconds,
        "minutes": stage.steps * seconds / 60,
    }
