"""What the training loop costs beside the bare steps it takes, on the CPU.

    python bench/loop_overhead.py --steps 40

A hand-written step draws a batch, computes the loss, goes backward, lets the optimiser step and
clears the gradients. Those five are timed from inside while `kexue-run task=lamost` trains
model=conv1d_res; what is left of each step is the loop's own: logging, progress, signals, random
state. Both parts of a step are measured in the same moment, so a busy machine slows both alike and
the ratio stands. The step to the last evaluation is left out, and so is the first step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kexue_cli.cli import main as kexue_run
from kexue_cli.tasks.lamost.training import Batches, CrossEntropy
from kexue_cli.train.keras_adam import KerasAdam

BARE = [
    (Batches, "batch"),
    (CrossEntropy, "__call__"),
    (torch.Tensor, "backward"),
    (KerasAdam, "step"),
    (KerasAdam, "zero_grad"),
]


class Clock:
    """Seconds in the bare parts of each step, and in each step as a whole."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.bare: list[float] = []

    def watch(self, owner: type, name: str) -> None:
        """Time every call of the method; a step begins with the drawing of its batch."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            if owner is Batches:
                self.begins.append(begin)
                self.bare.append(0.0)
            result = original(*args, **kwargs)
            self.bare[-1] += time.perf_counter() - begin
            return result

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    clock = Clock()
    for owner, name in BARE:
        clock.watch(owner, name)
    with tempfile.TemporaryDirectory() as folder:
        kexue_run(
            [
                "task=lamost",
                "data.n_spectra=1200",
                "data.n_test=0",
                f"task.cross_entropy.steps={options.steps}",
                "task.soft_f1.steps=0",
                f"task.evaluate_every={options.steps}",
                "device=cpu",
                f"device.threads={options.threads}",
                f"precision={options.precision}",
                f"run_dir={Path(folder) / 'run'}",
            ]
        )
    whole = np.diff(clock.begins)[1:]
    own = whole - np.array(clock.bare[1 : len(whole) + 1])
    bare = whole - own
    print(
        f"bare step {1e3 * np.median(bare):.1f} ms, the loop's own {1e3 * np.median(own):.2f} ms: "
        f"overhead {100 * np.median(own / bare):.2f} %, worst step {100 * np.max(own / bare):.2f} %"
        f" ({len(whole)} steps)"
    )


if __name__ == "__main__":
    main()
