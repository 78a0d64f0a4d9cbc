"""Stands in for `python -m kexue_cli` in sweeps: takes the same words, needs no torch.

`limit.rows` says how it behaves: 1 works, 2 leaves by sys.exit, 3 crashes, 4 waits for SIGTERM and
has a checkpoint then, 5 dies by SIGKILL. `optim.lr` decides the score: 0.001 is best; far from it
and with `limit.steps` the program never ends by itself. Every call is a line in FAKE_JOURNAL.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fake_runs import this_process, write_json, write_run


def main() -> None:
    settings = dict(word.split("=", 1) for word in sys.argv[1:])
    with open(os.environ["FAKE_JOURNAL"], "a") as journal:
        threads = os.environ.get("OMP_NUM_THREADS", "-")
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
        journal.write(f"{' '.join(sys.argv[1:])} threads={threads} gpu={gpu}\n")
    if "resume" in settings:
        path = Path(settings["resume"])
        write_json(path / "run.json", {"schema_version": 1, "status": "done", "resumed": True})
        return
    path, seed = Path(settings["run_dir"]), int(settings.get("seed", 0))
    behaviour = int(settings.get("limit.rows", 1))
    if behaviour == 2:
        sys.exit(3)
    if behaviour == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    value = 0.5 + seed / 10
    if "optim.lr" in settings:
        value = 1 - (math.log10(float(settings["optim.lr"])) + 3) ** 2
    if value < -1 and "limit.steps" in settings:
        be_hopeless(path)
    if behaviour == 4:
        wait_for_a_signal(path, seed)
    status = "failed" if behaviour == 3 else "done"
    rows = {key: value for key, value in settings.items() if key == "model.dropout"}
    write_run(path, status=status, seed=seed, value=value, settings=rows)
    if behaviour == 3:
        raise ZeroDivisionError(f"seed {seed} divides by zero")


def be_hopeless(path: Path) -> None:
    """Log bad numbers, one every 50 ms, until somebody ends it."""
    write_run(path, status="running", process=this_process())
    with (path / "metrics.jsonl").open("w") as log:
        for step in range(1200):
            log.write(f'{{"step": {step}, "split": "valid", "macro_f1": -9.0}}\n')
            log.flush()
            time.sleep(0.05)


def wait_for_a_signal(path: Path, seed: int) -> None:
    def stop(number: int, frame: object) -> None:
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "last.pt").write_text("state")
        write_json(path / "run.json", {"schema_version": 1, "status": "interrupted", "seed": seed})
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    write_run(path, status="running", seed=seed, process=this_process())
    time.sleep(60)


main()
