"""Training: exact after a stop, the same in parts as in one piece, the same on two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kexue_cli.cli import main
from kexue_cli.config import OptimConfig
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt, initialise
from kexue_cli.train.optim import make_optimizers
from tests.tasks.gpt2 import training_runs
from tests.tasks.gpt2.training_runs import losses, train, weights

ROOT = Path(__file__).resolve().parents[3]


def assert_same_training(one: Path, other: Path, tolerance: float) -> None:
    """Equal logs and weights."""
    assert [row[:2] for row in losses(one)] == [row[:2] for row in losses(other)]
    for mine, theirs in zip(losses(one), losses(other), strict=True):
        assert theirs[2] == pytest.approx(mine[2], abs=tolerance)
    expected = weights(one)
    assert expected.keys() == weights(other).keys()
    for name, tensor in weights(other).items():
        assert (tensor - expected[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("words", [(), ("model.dropout=0.2", "optim=adamw", "optim.accumulate=2")])
def test_a_signal_and_resume_lose_nothing(tmp_path, words):
    train(tmp_path / "whole", *words)
    training_runs.stopped_at_batch(5, tmp_path / "resumed", *words)
    run = json.loads((tmp_path / "resumed" / "run.json").read_text())
    assert run["status"] == "interrupted"
    main([f"resume={tmp_path / 'resumed'}"])
    assert_same_training(tmp_path / "whole", tmp_path / "resumed", 0.0)
    for name in ("submission.csv", "metrics.json"):
        whole, resumed = ((tmp_path / run / name).read_text() for run in ("whole", "resumed"))
        assert whole == resumed


def test_micro_batches_make_up_the_large_batch(tmp_path):
    train(tmp_path / "one", "optim=adamw")
    train(tmp_path / "parts", "optim=adamw", "task.batch=2", "optim.accumulate=4")
    assert_same_training(tmp_path / "one", tmp_path / "parts", 2e-5)


def test_checkpointing_changes_no_gradient():
    arch = Architecture(
        vocab_size=11, context=12, width=16, layers=3, heads=2, inner=32, residual_dropout=0.2
    )
    model = Gpt(arch)
    initialise(model, torch.Generator().manual_seed(0))
    tokens = torch.arange(24).view(2, 12) % 11
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        torch.manual_seed(0)  # of the dropout
        model.train()(tokens).logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_two_processes_train_as_one_does_with_whole_and_with_sharded_weights(tmp_path):
    for optim in ("adamw", "muon"):
        train(tmp_path / f"alone_{optim}", f"optim={optim}", "task.engine=plain")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.tasks.gpt2.training_runs", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for alone, together in (("adamw", "copies"), ("adamw", "adamw"), ("muon", "muon")):
        assert_same_training(tmp_path / f"alone_{alone}", tmp_path / together, 1e-3)
    assert_same_training(tmp_path / "muon", tmp_path / "resumed", 0.0)


def test_shards_need_processes_and_an_optimiser_that_takes_them(tmp_path):
    (tmp_path / "text.txt").write_text(training_runs.TEXT)
    with pytest.raises(SystemExit):
        train(tmp_path / "alone", "task.shard=true")
    with pytest.raises(SystemExit):
        train(tmp_path / "adafactor", "task.shard=true", "optim=adafactor")
    assert not (tmp_path / "adafactor").exists()


def test_adafactor_takes_the_steps_of_its_paper():
    """Algorithms 4 and 5 of Shazeer and Stern (2018), with decoupled weight decay."""
    rng = np.random.default_rng(0)
    matrix, vector = rng.normal(size=(6, 4)), rng.normal(size=5)
    weights_of = [nn.Parameter(torch.tensor(x)) for x in (matrix, vector)]
    module = nn.ParameterList(weights_of)
    (optimizer,) = make_optimizers(module, OptimConfig(name="adafactor", lr=0.05, weight_decay=0.1))
    rows, columns, squares = np.zeros(6), np.zeros(4), np.zeros(5)
    for step in range(1, 6):
        gradients = [rng.normal(size=(6, 4)), rng.normal(size=5)]
        for parameter, gradient in zip(weights_of, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
        decay = 1 - step**-0.8
        rows = decay * rows + (1 - decay) * (gradients[0] ** 2).mean(1)
        columns = decay * columns + (1 - decay) * (gradients[0] ** 2).mean(0)
        squares = decay * squares + (1 - decay) * gradients[1] ** 2
        second = (np.outer(rows, columns) / rows.mean(), squares)
        values = []
        for value, gradient, v in zip((matrix, vector), gradients, second, strict=True):
            size = min(0.05, step**-0.5) * max(1e-3, np.sqrt((value**2).mean()))
            update = gradient / np.sqrt(v)
            update /= max(1, np.sqrt((update**2).mean()))
            values.append(value * (1 - 0.05 * 0.1) - size * update)
        matrix, vector = values
    np.testing.assert_allclose(weights_of[0].detach(), matrix, rtol=1e-6)
    np.testing.assert_allclose(weights_of[1].detach(), vector, rtol=1e-6)
