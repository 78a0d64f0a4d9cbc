"""Small training runs that several tests compare; as a program, the runs of several processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from kexue_cli.cli import main
from kexue_cli.tasks.gpt2 import task
from kexue_cli.tasks.gpt2.packed import Batch, training_batches

TEXT = "".join(f"the quick brown fox {i} jumps over {7 * i % 31} lazy dogs.\n" for i in range(150))
SMALL = [
    "task=gpt2", "model.width=32", "model.heads=2", "model.layers=2", "model.context=16",
    "data=corpus", "data.tokenizer=char", "task.batch=8", "task.steps=9", "task.evaluate_every=4",
    "task.valid_windows=8", "task.ngram_orders=0", "task.sample_tokens=5", "device=cpu",
    "device.threads=1", "precision=fp32",
]  # fmt: skip


def train(folder: Path, *words: str) -> None:
    """Train on TEXT into a run directory."""
    text = folder.parent / "text.txt"
    if not text.exists():
        text.write_text(TEXT)
    main([*SMALL, f"data.path={text}", *words, f"run_dir={folder}"])


def stopped_at_batch(number: int, folder: Path, *words: str) -> None:
    """The same, but the process gets SIGTERM before a batch; the run ends as interrupted."""

    def batches(*arguments: Any) -> Iterator[Batch]:
        for count, batch in enumerate(training_batches(*arguments)):
            if count == number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with (
        mock.patch.object(task, "training_batches", batches),
        contextlib.suppress(SystemExit),
    ):
        train(folder, *words)


def losses(folder: Path) -> list[tuple[int, str, float]]:
    """(step, split, loss) of every line of the log."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["split"], row["loss"]) for row in rows if "loss" in row]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Weights of a checkpoint."""
    path = folder / "checkpoints" / f"{name}.pt"
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state"]["task"]["model"]
    return state


def meet_elsewhere() -> None:
    """Let the processes of torchrun meet at a port of its own for every run of a program."""
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)


if __name__ == "__main__":  # on two processes: half the batch on each
    root = Path(sys.argv[1])
    runs = {
        "copies": ("optim=adamw", "task.shard=false"),
        "adamw": ("optim=adamw", "task.shard=true"),
        "muon": ("optim=muon", "task.shard=true"),
    }
    for name, words in runs.items():
        meet_elsewhere()
        train(root / name, "task.batch=4", *words)
    meet_elsewhere()
    stopped_at_batch(5, root / "resumed", "task.batch=4", *runs["muon"])
    while json.loads((root / "resumed" / "run.json").read_text())["status"] == "running":
        time.sleep(0.1)  # the other process writes it
    meet_elsewhere()
    main([f"resume={root / 'resumed'}"])
