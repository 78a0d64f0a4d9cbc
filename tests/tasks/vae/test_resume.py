"""A stopped run ends with the bits of an unbroken one; a bad loss keeps good weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kexue_cli.cli import main
from kexue_cli.tasks.vae.cells import Batch, Group, Workbench
from kexue_cli.train.stage import Loss
from tests.tasks.vae.runs import run

ROOT = Path(__file__).resolve().parents[3]
SMALL = (
    "task=vae",
    "limit.rows=120",
    "task.epochs=3",
    "task.batch_size=30",
    "task.evaluate_every_epochs=1",
    "task.nll_samples=20",
    "task.bounds=[]",
    "device.threads=1",
    "precision=fp32",
    "device=cpu",
)
TABLE = (
    "experiment=iwae_table",
    "data=digits",
    "limit.rows=60",
    "task.stages=2",
    "task.study_values=[1,3]",
    "task.nll_samples=20",
    "task.bounds=[]",
    "device.threads=1",
    "device=cpu",
)


def state(folder: Path, name: str) -> dict[str, Tensor]:
    saved = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["state"]
    weights: dict[str, Tensor] = saved["task"]["weights"]
    return weights


@pytest.mark.parametrize("words", [SMALL, TABLE], ids=["one model", "a table in two stages"])
@pytest.mark.parametrize("stop_at", [2, 7])
def test_a_stopped_and_resumed_run_has_the_bits_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], stop_at: int
) -> None:
    assert run(tmp_path / "whole", *words).returncode == 0
    original, calls = Workbench.loss, iter(range(10_000))

    def loss(self: Workbench, model: nn.Module, batch: Batch) -> Loss:
        if next(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "loss", loss)
        assert run(tmp_path / "broken", *words).returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "broken" / "metrics.json").exists()
    main([f"resume={tmp_path / 'broken'}"])
    for name in ("best", "last"):
        whole, resumed = (state(tmp_path / run_name, name) for run_name in ("whole", "broken"))
        assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    for file in ("metrics.jsonl", "metrics.json"):
        whole_text, resumed_text = (
            (tmp_path / run_name / file).read_text() for run_name in ("whole", "broken")
        )
        assert whole_text == resumed_text


def test_a_nan_names_step_and_term_and_keeps_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Group.bound

    def bound(
        self: Group, x: Tensor, labels: Tensor | None, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, logs = original(self, x, labels, step)
        if step == 6:
            logs["kl"] = logs["kl"] * torch.nan
            value = value * torch.nan
        return value, logs

    monkeypatch.setattr(Group, "bound", bound)
    done = run(tmp_path / "run", *SMALL)
    assert done.returncode != 0
    assert "loss, kl is not a finite number at step 7" in done.printed
    assert "last.pt" in done.printed
    assert all(bool(tensor.isfinite().all()) for tensor in state(tmp_path / "run", "last").values())


def test_a_nan_in_a_table_names_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Group.bound

    def bound(
        self: Group, x: Tensor, labels: Tensor | None, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, logs = original(self, x, labels, step)
        return value.index_fill(0, torch.tensor([1]), torch.nan), logs

    monkeypatch.setattr(Group, "bound", bound)
    words = ("experiment=vae_beta", "data=digits", "limit.steps=3", "task.study_values=[0,2.5]")
    done = run(tmp_path / "run", *words)
    assert "loss of beta 2.5 is not a finite number at step 1" in done.printed
    assert "loss of beta 0.0" not in done.printed


def test_two_processes_train_like_one_up_to_their_draws(tmp_path: Path) -> None:
    assert run(tmp_path / "one", *SMALL).returncode == 0
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"]
    subprocess.run(
        [sys.executable, *launcher, "-m", "kexue_cli", *SMALL, f"run_dir={tmp_path / 'two'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=240,
        check=True,
        cwd=tmp_path,
    )
    one, two = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    assert two["primary"]["value"] == pytest.approx(one["primary"]["value"], rel=0.02)
    assert two["test"]["nll_is20_dynamic"] == pytest.approx(
        one["test"]["nll_is20_dynamic"], rel=0.02
    )
