"""The loop: exact resume, exact accumulation, best weights, and how it stops."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kexue_cli.errors import Interrupted, UserError
from kexue_cli.run.context import Context
from kexue_cli.train.loop import fit
from kexue_cli.train.stage import Loss
from tests.toy import ToyTask

Make = Callable[..., Context]


def train(ctx: Context, task: ToyTask, **settings: Any) -> Any:
    progress = fit(
        ctx, task, task.model, task.stages(ctx, **settings), lambda: task.evaluate(ctx, "valid")
    )
    ctx.log.close()
    return progress


@pytest.mark.parametrize("stop_at", [5, 12, 29])
@pytest.mark.parametrize("changes", [{}, {"optim__ema_decay": 0.99, "optim__clip_norm": 1.0}])
def test_an_interrupted_and_resumed_run_has_the_bits_of_an_unbroken_one(
    make_context: Make, stop_at: int, changes: dict[str, Any]
) -> None:
    whole_ctx = make_context(**changes)
    whole = ToyTask(whole_ctx.cfg)
    train(whole_ctx, whole)

    ctx = make_context(**changes)
    broken = ToyTask(ctx.cfg)
    broken.stop_at = stop_at
    with pytest.raises(Interrupted):
        train(ctx, broken)
    ctx.log(step=999, late=1.0)  # a line after the checkpoint, as a killed run leaves some
    ctx.log.close()
    again = make_context(resume=ctx.directory.path, **changes)
    resumed = ToyTask(again.cfg)
    train(again, resumed)

    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert (again.directory.path / "metrics.jsonl").read_bytes() == (
        whole_ctx.directory.path / "metrics.jsonl"
    ).read_bytes()


def test_accumulated_micro_batches_give_the_gradient_of_one_large_batch(make_context: Make) -> None:
    def trained(accumulate: int) -> torch.Tensor:
        ctx = make_context(optim__name="sgd", optim__accumulate=accumulate)
        task = ToyTask(ctx.cfg, dropout=0.0)
        stage = task.stages(ctx, steps=3, batch_size=16)[0]
        whole = list(itertools.islice(stage.batches(0), 3))
        pieces = [part for batch in whole for part in batch.split([7, 5, 3, 1])]
        source = whole if accumulate == 1 else pieces
        stage.batches = lambda first: iter(source[first:])
        fit(ctx, task, task.model, [stage], lambda: task.evaluate(ctx, "valid"))
        return task.model.state_dict()["0.weight"].clone()

    torch.testing.assert_close(trained(1), trained(4), rtol=1e-5, atol=1e-6)


def test_the_task_holds_its_best_weights_at_the_end(make_context: Make) -> None:
    ctx = make_context(optim__lr=0.05)
    task = ToyTask(ctx.cfg)
    progress = train(ctx, task)
    task.model.eval()
    assert task.evaluate(ctx, "valid")["mse"] == pytest.approx(progress.best, rel=1e-6)
    lines = (ctx.directory.path / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line)["mse"] for line in lines if '"valid"' in line]
    assert progress.best == min(scores)
    assert len(scores) == 6


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_term(
    make_context: Make,
) -> None:
    ctx = make_context()
    task = ToyTask(ctx.cfg)
    calls = 0

    def bad_loss(model: torch.nn.Module, rows: torch.Tensor) -> Loss:
        nonlocal calls
        calls += 1
        loss = task.loss(model, rows)
        if calls == 17:
            loss.logs["absolute"] = loss.logs["absolute"] * math.nan
        return loss

    with pytest.raises(UserError, match=r"absolute is not a finite number at step 17.*last\.pt"):
        train(ctx, task, loss=bad_loss)
    assert (ctx.directory.path / "checkpoints" / "last.pt").exists()


def test_patience_ends_a_stage_early(make_context: Make) -> None:
    ctx = make_context(optim__lr=1e-12)
    task = ToyTask(ctx.cfg, dropout=0.0)
    values = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    stages = task.stages(ctx, patience=1)[:1]
    progress = fit(ctx, task, task.model, stages, lambda: {"mse": next(values)})
    assert progress.total_steps == 24


def test_evaluations_leave_the_training_as_it_was(make_context: Make) -> None:
    weights = []
    for evaluate_every in (3, 30):
        ctx = make_context()
        task = ToyTask(ctx.cfg)
        stage = task.stages(ctx, evaluate_every=evaluate_every)[0]

        def evaluate() -> dict[str, float]:
            torch.rand(7)
            return {}

        fit(ctx, task, task.model, [stage], evaluate)
        weights.append(task.model.state_dict()["0.weight"].clone())
    assert torch.equal(*weights)
