"""What logging costs: microseconds per step of the metrics log and of every tracker installed.

    python bench/manage_tracking.py [--step-ms 100]

Each step logs five numbers, as a training step does; the share is of a step of that length (the
default model of task=lamost takes about 100 ms for a batch of 160 on two cores).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kexue_cli.run import trackers
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import MetricsLog

STEPS = 2000
CONFIG: dict[str, Any] = {"task": {"name": "bench"}, "seed": 0}


def seconds_per_step(names: list[str]) -> float:
    """Mean time of one call of the log; opening and closing are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = OmegaConf.create({"trackers": names, "output_dir": folder})
        directory = RunDirectory.create(Path(folder), "bench", "bench")
        log = MetricsLog(directory.path / "metrics.jsonl", trackers.start(cfg, directory, CONFIG))
        begun = time.perf_counter()
        for step in range(STEPS):
            log(step=step, loss=1.0 / (step + 1), lr=1e-3, a=1.0, b=2.0, c=3.0)
        taken = (time.perf_counter() - begun) / STEPS
        log.close()
    return taken


def main() -> None:
    """Print one line per tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=100.0)
    step_seconds = parser.parse_args().step_ms / 1000
    for name in ("", *trackers.TRACKERS):
        if name and importlib.util.find_spec(name) is None:
            print(f"{name:<12} not installed")
            continue
        taken = seconds_per_step([name] if name else [])
        share = 100 * taken / step_seconds
        print(
            f"{name or 'metrics.jsonl':<14} {taken * 1e6:8.1f} µs per step, {share:.3f} % of a step"
        )


if __name__ == "__main__":
    main()
