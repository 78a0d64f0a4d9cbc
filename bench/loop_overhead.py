"""What the training loop costs beside a bare hand-written step, on the CPU.

    python bench/loop_overhead.py --steps 20 --rounds 3

Both sides train model=conv1d_res on the same simulated spectra: the loop as `kexue-run task=lamost`
starts it (logging, progress, signals, random-number bookkeeping), and a plain `for` over the same
batches with forward, backward and optimiser step. Times are taken from batch to batch, so start-up
and evaluation do not count; the rounds alternate and medians are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from kexue_cli.cli import main as kexue_run
from kexue_cli.tasks.lamost.training import Batch, Batches, CrossEntropy
from kexue_cli.train.keras_adam import KerasAdam


class Recorder:
    """Takes the place of `Batches.batch`: notes when each batch is asked for, and by whom."""

    def __init__(self) -> None:
        self.original = Batches.batch
        self.times: list[float] = []
        self.batches: Batches | None = None

    def __call__(self, batches: Batches, step: int) -> Batch:
        self.times.append(time.perf_counter())
        self.batches = batches
        return self.original(batches, step)


def seconds_of_loop(words: list[str], recorder: Recorder) -> list[float]:
    """Seconds from batch to batch inside the package's loop."""
    recorder.times.clear()
    with tempfile.TemporaryDirectory() as folder:
        kexue_run([*words, f"run_dir={Path(folder) / 'run'}"])
    return list(np.diff(recorder.times))


def seconds_of_bare_steps(recorder: Recorder, steps: int, bfloat16: bool) -> list[float]:
    """The same from a loop that does nothing but train."""
    batches = recorder.batches
    assert batches is not None
    model = batches.model.train()
    optimizer = KerasAdam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    loss_of = CrossEntropy(0.0, None)
    times = []
    for step in range(steps):
        times.append(time.perf_counter())
        batch = recorder.original(batches, step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = loss_of(model, batch)
        (loss.sum / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    return list(np.diff(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    words = [
        "task=lamost",
        "data.n_spectra=1200",
        "data.n_test=0",
        f"task.cross_entropy.steps={options.steps}",
        "task.soft_f1.steps=0",
        f"task.evaluate_every={options.steps}",
        f"device.threads={options.threads}",
        "device=cpu",
        f"precision={options.precision}",
    ]
    recorder = Recorder()
    Batches.batch = lambda self, step: recorder(self, step)  # type: ignore[method-assign]
    loop: list[float] = []
    bare: list[float] = []
    for _ in range(options.rounds):
        loop += seconds_of_loop(words, recorder)
        bare += seconds_of_bare_steps(recorder, options.steps, options.precision == "bf16")
    ours, theirs = float(np.median(loop)), float(np.median(bare))
    print(f"loop {1e3 * ours:.1f} ms, bare {1e3 * theirs:.1f} ms a step: ", end="")
    print(f"overhead {100 * (ours / theirs - 1):+.2f} % ({len(bare)} steps each)")


if __name__ == "__main__":
    main()
