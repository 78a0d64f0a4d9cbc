"""One trial: a run with the suggested settings, watched through its metrics log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.manage.store import read_run
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep.job import read_report, run_process, share_of_machine, stop_requested
from kexue_cli.tune.space import Space, as_overrides, suggest

LOOK_SECONDS = 1.0


class Failed(Exception):
    """A trial's run failed or was stopped; the search goes on without it."""


class Search:
    """What all trials of one process share."""

    def __init__(
        self, directory: Path, space: Space, words: tuple[str, ...], study: Any, workers: int
    ) -> None:
        self.directory = directory
        self.space = space
        self.words = words
        self.study = study
        self.workers = workers
        self.say: Callable[[str], None] = lambda text: print(text, flush=True)
        self._writing = threading.Lock()

    def __call__(self, trial: Any) -> float:
        """Run a trial; returns its score.

        Raises:
            TrialPruned: it did worse than the others at the same step.
            Failed: its run failed, or the search was asked to stop.
        """
        optuna = require("optuna", extra="tune")
        if stop_requested(self.directory):
            self.study.stop()
            raise Failed
        overrides = (*self.words, *as_overrides(suggest(trial, self.space)))
        plan = self._plan(trial.number, overrides)
        watch = Watch(plan.run_directory(trial.number) / "metrics.jsonl", trial, self.space)
        with share_of_machine(self.directory, self.workers) as environment:
            status = run_process(
                plan,
                trial.number,
                environment,
                lambda: stop_requested(self.directory) or watch.is_hopeless(),
            )
        self._say(trial, status, watch)
        if watch.hopeless:
            raise optuna.TrialPruned
        if status != "done":
            if stop_requested(self.directory):
                self.study.stop()
            raise Failed
        return score(plan.run_directory(trial.number), self.space)

    def _plan(self, number: int, overrides: tuple[str, ...]) -> plans.Plan:
        """sweep.json with this trial in it: a study is also a sweep, for every reader."""
        with self._writing:
            return write_plan(self.directory, self.study, self.words, {number: overrides})

    def _say(self, trial: Any, status: str, watch: Watch) -> None:
        settings = " ".join(as_overrides(trial.params))
        outcome = "pruned" if watch.hopeless else status
        value = "" if watch.last is None else f"  {self.space.metric} {watch.last:.5g}"
        self.say(f"trial {trial.number} {outcome}  {settings}{value}")
        if outcome == "failed":
            report = read_report(plans.load(self.directory), trial.number)
            self.say("  " + str(report.get("error")).replace("\n", "\n  "))


def write_plan(
    directory: Path, study: Any, words: tuple[str, ...], more: dict[int, tuple[str, ...]]
) -> plans.Plan:
    """Write sweep.json from the storage, which also knows the trials of other processes."""
    jobs = {t.number: (*words, *as_overrides(t.params)) for t in study.get_trials(deepcopy=False)}
    jobs |= more
    ordered = tuple(jobs.get(number, words) for number in range(max(jobs, default=-1) + 1))
    plan = plans.Plan(directory.resolve(), ordered, ())
    plans.save(plan, ["kexue", "tune"])
    return plan


class Watch:
    """Reports the metric of a running trial to the pruner and remembers its verdict."""

    def __init__(self, path: Path, trial: Any, space: Space) -> None:
        self.path = path
        self.trial = trial
        self.split, self.name = space.split_and_name
        self.position = 0
        self.last: float | None = None
        self.hopeless = False
        self._looked = 0.0

    def is_hopeless(self) -> bool:
        """Read new lines of the log (about once a second) and ask the pruner."""
        now = time.monotonic()
        if self.hopeless or now - self._looked < LOOK_SECONDS:
            return self.hopeless
        self._looked = now
        for step, value in self.new_values():
            self.trial.report(value, step)
            self.last = value
            if self.trial.should_prune():
                self.hopeless = True
                break
        return self.hopeless

    def new_values(self) -> list[tuple[int, float]]:
        """Step and value of the metric in the whole lines that were not there before."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        entries = [json.loads(line) for line in whole.splitlines()]
        return [
            (int(entry["step"]), float(entry[self.name]))
            for entry in entries
            if entry.get("split") == self.split and isinstance(entry.get(self.name), (int, float))
        ]


def score(directory: Path, space: Space) -> float:
    """The metric of a finished run.

    Raises:
        UserError: the run has no such metric; the ones it has are named.
    """
    run = read_run(directory)
    split, name = space.split_and_name
    value = run.splits.get(split, {}).get(name)
    if not isinstance(value, (int, float)):
        known = ", ".join(f"{s}/{m}" for s, row in run.splits.items() for m in row)
        raise UserError(f"{directory} has no number {space.metric}; it has: {known}")
    return float(value)
