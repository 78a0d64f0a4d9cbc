"""How long the commands over run directories take, in fresh processes, median of several.

    python bench/manage_listing.py [--runs 10000]

Makes run directories as the runner writes them, in a temporary folder, and removes them again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fake_runs import write_run  # noqa: E402

REPEATS = 5


def seconds(words: list[str]) -> float:
    """Median wall time of `kexue <words>` in fresh processes."""
    command = [sys.executable, "-m", "kexue_cli.manage.cli", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def make_runs(root: Path, count: int) -> None:
    """Runs of two models, three settings and many seeds."""
    for i in range(count):
        model = ("conv1d_res", "densenet1d")[i % 2]
        name = f"2026-11-{1 + i % 28:02}_10-{i // 60 % 60:02}-{i % 60:02}-{i:04x}"
        settings = {"optim.lr": (0.1, 0.01, 0.001)[i % 3]}
        write_run(root / "lamost" / model / name, seed=i, model=model, settings=settings)


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    count = parser.parse_args().runs
    print(f"kexue --help                          {seconds(['--help']):.3f} s")
    for number in (100, count):
        with tempfile.TemporaryDirectory() as folder:
            make_runs(Path(folder), number)
            for words in (["runs"], ["runs", "model=conv*", "--sort", "-primary"], ["leaderboard"]):
                line = f"kexue {' '.join(words)}"
                print(f"{line:<37} {seconds([*words, '--root', folder]):.3f} s for {number:,} runs")


if __name__ == "__main__":
    main()
