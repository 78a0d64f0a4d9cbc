"""`kexue-run -m …` from beginning to end: plan, launch what is missing, watch, sum up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kexue_cli.errors import Interrupted, UserError
from kexue_cli.manage import tables
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep.job import read_report, status_of
from kexue_cli.sweep.launch import check_words, launch
from kexue_cli.sweep.results import job_rows, primary_column, summary_rows, write_results
from kexue_cli.sweep.watch import elapsed_since, watching

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def sweep(words: Sequence[str]) -> int:
    """Run a sweep; returns 0 if every job is done, else 1.

    Raises:
        UserError: the command makes no sense, or another sweep works in the same directory.
        Interrupted: a signal stopped it; every running job has saved its state.
    """
    begun = time.monotonic()
    if "dry_run=true" in words:
        return list_jobs([word for word in words if word != "dry_run=true"])
    plan, hydra_words = planned(words)
    with only_one(plan.directory), stoppable(plan.directory) as received:
        numbers = [n for n in range(len(plan.jobs)) if status_of(plan, n) != "done"]
        _say_start(plan, numbers)
        try:
            if numbers:
                with watching(plan):
                    launch(plan.directory, numbers, hydra_words)
        finally:
            write_results(plan)
            _say_end(plan, begun)
    if received:
        print(f"Stopped. Go on with: kexue-run -m sweep={os.path.relpath(plan.directory)}")
        raise Interrupted(received[0])
    return int(any(status_of(plan, n) != "done" for n in range(len(plan.jobs))))


def list_jobs(words: Sequence[str]) -> int:
    """`--dry-run`: print what would run; nothing is made."""
    from kexue_cli.config import register_schemas

    register_schemas()
    sorted_words = plans.sort_words(words)
    check_words(sorted_words.hydra)
    jobs = plans.expand(sorted_words)
    plan = plans.Plan(Path(), tuple(jobs), sorted_words.flags)
    if sorted_words.sweep is not None:
        plan = plans.load(plans.find(sorted_words.sweep, plans.output_dir_of(jobs)))
        states = [status_of(plan, n) for n in range(len(plan.jobs))]
    else:
        _task(sorted_words, jobs)
        states = ["pending"] * len(jobs)
    rows = [
        {"job": n, "status": state, "command": " ".join(job)}
        for n, (job, state) in enumerate(zip(plan.jobs, states, strict=True))
    ]
    print(tables.render(rows))
    return 0


def planned(words: Sequence[str]) -> tuple[plans.Plan, tuple[str, ...]]:
    """The sweep that the words describe: a new one, or the earlier one that `sweep=` names."""
    from kexue_cli.config import register_schemas

    register_schemas()
    sorted_words = plans.sort_words(words)
    check_words(sorted_words.hydra)
    command = ["kexue-run", *words]
    if sorted_words.sweep is not None:
        jobs = plans.expand(sorted_words)
        return plans.continued(sorted_words, jobs, command), sorted_words.hydra
    jobs = plans.expand(sorted_words)
    task = _task(sorted_words, jobs)
    return plans.create(sorted_words, jobs, task, command), sorted_words.hydra


def _task(words: plans.Words, jobs: Sequence[tuple[str, ...]]) -> str:
    """The task of the first job that can be composed.

    Where none can, nothing is started: the first job's error is raised.
    """
    first_error: Exception | None = None
    for job in jobs:
        try:
            return plans.task_of(words, job)
        except Exception as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the sweep directory for this process alone."""
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another kexue-run is working in {directory}. Wait for it, or stop it first"
            ) from error
        (directory / "stop").unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def stoppable(directory: Path) -> Iterator[list[int]]:
    """A first Ctrl-C or SIGTERM asks every job to save and stop; a second one ends at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise Interrupted(number)
        received.append(number)
        (directory / "stop").touch()

    former: dict[int, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _say_start(plan: plans.Plan, numbers: Sequence[int]) -> None:
    done = len(plan.jobs) - len(numbers)
    earlier = f", {done} of them done earlier" if done else ""
    print(f"sweep of {len(plan.jobs)} jobs{earlier}: {os.path.relpath(plan.directory)}", flush=True)


def _say_end(plan: plans.Plan, begun: float) -> None:
    rows = job_rows(plan)
    primary = primary_column(plan)
    shown_keys = [
        "job",
        "status",
        *plans.swept_keys(plan),
        *([primary] if primary else []),
        "wall_seconds",
    ]
    print(tables.render(rows, shown_keys))
    summary = summary_rows(plan)
    if len(summary) < len(rows) and primary:
        keys = [key for key in summary[0] if "/" not in key]
        print("\nmean ± sd over seeds and folds\n" + tables.render(summary, [*keys, primary]))
    for row in rows:
        if row["status"] == "failed":
            error = str(read_report(plan, row["job"]).get("error") or "").strip()
            print(f"\njob {row['job']} failed (logs/{row['job']}.log):\n{error}", file=sys.stderr)
    print(f"\n{os.path.relpath(plan.directory)}/sweep.csv after {elapsed_since(begun)}", flush=True)
