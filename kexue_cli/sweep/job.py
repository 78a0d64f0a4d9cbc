"""One job of a sweep, in a process of its own.

Hydra's launchers (this process, joblib, submitit, ray) call `run_job`; it starts
`python -m kexue_cli` for the job and waits. So nothing leaks from job to job, `sys.exit` or a crash
ends that job alone, and every launcher treats jobs alike.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kexue_cli.manage.store import read_run
from kexue_cli.paths import PACKAGE
from kexue_cli.run.cores import available_cores
from kexue_cli.run.files import write_json
from kexue_cli.run.record import is_alive, now, process_identity
from kexue_cli.sweep import plan as plans

PROGRAM = (sys.executable, "-m", "kexue_cli")
POLL_SECONDS = 0.2
ERROR_LINES = 30
OWN_MESSAGE = "kexue-run: error: "


@dataclass
class SweepJob:
    """What a launcher is given: the sweep's directory, the job's number, how many run at once."""

    directory: str = ""
    number: int = 0
    parallel: int = 1  # jobs that share this machine
    parent: int = 0  # process number of the sweep itself


def run_job(directory: Path, number: int, parallel: int, parent: int) -> str:
    """Run job `number` unless it is done; returns its status, also where the job fails."""
    plan = plans.load(directory)
    if stop_requested(directory):
        return "stopped"
    state = status_of(plan, number)
    if state in ("done", "running"):
        return state
    if os.getpid() != parent:
        # A worker sees the terminal's Ctrl-C too; the sweep itself passes it on by the stop file.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with share_of_machine(directory, parallel) as environment:
        return run_process(plan, number, environment, lambda: stop_requested(directory))


def run_process(
    plan: plans.Plan, number: int, environment: dict[str, str], should_stop: Callable[[], bool]
) -> str:
    """Run one job in its own process and record how it went; returns its status.

    `should_stop` is asked several times a second; once it says yes, the job is told to end.
    """
    run_directory = plan.run_directory(number)
    words = _words(plan, number)
    log_path = plan.directory / "logs" / f"{number}.log"
    log_path.parent.mkdir(exist_ok=True)
    report: dict[str, Any] = {
        "number": number,
        "overrides": list(plan.jobs[number]),
        "status": "running",
        "started": now(),
        "process": process_identity(),
        "attempts": int(read_report(plan, number).get("attempts", 0)) + 1,
    }
    report_path = plan.directory / "jobs" / f"{number}.json"
    write_json(report_path, report)
    begun = time.monotonic()
    with log_path.open("ab") as log:
        code = _wait(words, environment, log, should_stop)
    record = read_run(run_directory).record
    status = "done" if code == 0 and record.get("status") == "done" else "failed"
    if record.get("status") == "interrupted" or (code != 0 and should_stop()):
        status = "interrupted"
    report |= {
        "status": status,
        "exit_code": code,
        "ended": now(),
        "wall_seconds": round(time.monotonic() - begun, 3),
        "error": None if status == "done" else error_of(record, log_path),
    }
    write_json(report_path, report)
    return status


def _words(plan: plans.Plan, number: int) -> list[str]:
    """The job's command; an interrupted run goes on, the remains of a failed one are set aside."""
    run_directory = plan.run_directory(number)
    if (run_directory / "checkpoints" / "last.pt").exists() and _was_interrupted(run_directory):
        overrides = [f"resume={run_directory}"]
    else:
        _set_aside(run_directory)
        overrides = [*plan.jobs[number], f"run_dir={run_directory}"]
    return [*PROGRAM, *plan.flags, *overrides]


def _was_interrupted(run_directory: Path) -> bool:
    return read_run(run_directory).record.get("status") in ("interrupted", "running")


def _set_aside(run_directory: Path) -> None:
    if not run_directory.exists():
        return
    attempts = run_directory.parent / "attempts"
    attempts.mkdir(exist_ok=True)
    k = 1
    while (attempts / f"{run_directory.name}-{k}").exists():
        k += 1
    shutil.move(run_directory, attempts / f"{run_directory.name}-{k}")


def _wait(
    words: Sequence[str],
    environment: dict[str, str],
    log: IO[bytes],
    should_stop: Callable[[], bool],
) -> int:
    """Start the process and wait for it; a stop request is passed on once, as SIGTERM."""
    # A session of its own: the terminal's Ctrl-C must reach it once, through us, not twice.
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    told = False
    try:
        while (code := process.poll()) is None:
            if not told and should_stop():
                process.send_signal(signal.SIGTERM)
                told = True
            time.sleep(POLL_SECONDS)
    except BaseException:
        process.kill()
        raise
    return code


def error_of(record: dict[str, Any], log_path: Path) -> str:
    """Why a job failed: the end of what it printed (its traceback), else the run's own word."""
    try:
        text = log_path.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        text = ""
    lines = text.rstrip().splitlines()
    starts = [
        i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")
    ]
    if starts:
        return "\n".join(lines[starts[-1] :])
    return "\n".join(lines[-ERROR_LINES:]) or str(record.get("error") or "ended without a word")


def one_line(error: str | None) -> str:
    """The line of an error that says most: our own message, else the last one (of a traceback)."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith(OWN_MESSAGE)]
    return own[-1].removeprefix(OWN_MESSAGE) if own else (lines[-1] if lines else "")


def read_report(plan: plans.Plan, number: int) -> dict[str, Any]:
    """jobs/<n>.json, {} where it is not there or damaged."""
    try:
        report = json.loads(
            (plan.directory / "jobs" / f"{number}.json").read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def status_of(plan: plans.Plan, number: int) -> str:
    """pending, running, done, interrupted or failed; by run.json, then by the job's report."""
    report = read_report(plan, number)
    record = read_run(plan.run_directory(number)).record
    status = str(record.get("status") or report.get("status") or "pending")
    if status == "running":
        process = record.get("process") or report.get("process")
        return "running" if process and is_alive(process) else "interrupted"
    if status == "done" and report.get("status") == "failed":
        return "failed"
    return status


def stop_requested(directory: Path) -> bool:
    """Whether the sweep was asked to stop."""
    return (directory / "stop").exists()


@contextmanager
def share_of_machine(directory: Path, parallel: int) -> Iterator[dict[str, str]]:
    """Environment of one of `parallel` jobs on this machine: its share of cores, its own GPU.

    Slots are file locks, so that they become free whatever happens to a job.
    """
    environment = dict(os.environ)
    here = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = str(PACKAGE.parent) + (os.pathsep + here if here else "")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    if parallel <= 1:
        yield environment
        return
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // parallel)))
    with _slot(directory / ".slots", parallel) as slot:
        gpus = visible_gpus()
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        yield environment


@contextmanager
def _slot(folder: Path, count: int) -> Iterator[int]:
    folder.mkdir(exist_ok=True)
    while True:
        for slot in range(count):
            with (folder / str(slot)).open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                yield slot
                return
        time.sleep(POLL_SECONDS)


def visible_gpus() -> list[str]:
    """The CUDA devices that jobs may use, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip()]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(lines))]
