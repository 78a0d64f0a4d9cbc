"""A run that was stopped and went on ends with the same bits as one that never stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kexue_cli.cli import main
from kexue_cli.tasks.lamost.training import Batches

SMALL = [
    "task=lamost",
    "data.n_spectra=300",
    "data.n_test=40",
    "data.length=256",
    "model.filters=[16,16,32]",
    "task.batch_size=32",
    "task.cross_entropy.steps=7",
    "task.soft_f1.steps=5",
    "task.evaluate_every=3",
    "task.augment.noise=0.1",
    "optim.ema_decay=0.9",
    "device.threads=1",
    "precision=fp32",
    "device=cpu",
]


def start(folder: Path) -> None:
    main([*SMALL, f"run_dir={folder}"])


def stop_at_batch(number: int, signal_number: int) -> Callable[..., object]:
    """A `Batches.batch` that gets this process a signal before its `number`-th batch (from 0)."""
    original, calls = Batches.batch, iter(range(10_000))

    def batch(self: Batches, step: int) -> object:
        if next(calls) == number:
            os.kill(os.getpid(), signal_number)
        return original(self, step)

    return batch


def result(folder: Path) -> dict[str, object]:
    """Everything that must be equal: weights, optimiser, log, scores, predictions."""
    state = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["state"]
    last = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "best": state["task"]["model"],
        "last": last["task"]["model"],
        "average": last["loop"]["average"]["average"],
        "optimizer": last["loop"]["optimizers"][0]["state"],
        "rng": last["loop"]["rng"][0],
        "log": [{k: v for k, v in row.items() if "time" not in k} for row in log],
        "scores": json.loads((folder / "metrics.json").read_text()),
        "predictions": (folder / "predictions.csv").read_text(),
        "submission": (folder / "submission.csv").read_text(),
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    return a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    start(folder)
    return result(folder)


def test_the_same_command_gives_the_same_bits(tmp_path: Path, uninterrupted) -> None:
    start(tmp_path / "again")
    found = result(tmp_path / "again")
    assert [name for name in found if not same(found[name], uninterrupted[name])] == []


@pytest.mark.parametrize(
    ("batch", "signal_number"),
    [
        pytest.param(4, signal.SIGTERM, id="between two evaluations"),
        pytest.param(0, signal.SIGINT, id="at the first step"),
        pytest.param(9, signal.SIGINT, id="inside the second stage"),
    ],
)
def test_a_signal_and_resume_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted, batch: int, signal_number: int
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Batches, "batch", stop_at_batch(batch, signal_number))
        with pytest.raises(SystemExit) as stopped:
            start(folder)
    assert stopped.value.code == 128 + signal_number
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert not (folder / "predictions.csv").exists()
    main([f"resume={folder}"])
    found = result(folder)
    assert [name for name in found if not same(found[name], uninterrupted[name])] == []
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


@pytest.mark.parametrize("batch", [5, 11])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, uninterrupted, batch: int
) -> None:
    folder = tmp_path / "run"
    program = (
        "import signal\n"
        "from tests.tasks.lamost import test_resume as t\n"
        f"t.Batches.batch = t.stop_at_batch({batch}, signal.SIGKILL)\n"
        f"t.start({str(folder)!r})\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-500:]
    main([f"resume={folder}"])
    found = result(folder)
    assert [name for name in found if not same(found[name], uninterrupted[name])] == []
