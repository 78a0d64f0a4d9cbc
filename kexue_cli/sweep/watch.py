"""The live table of a sweep: on a terminal it redraws itself, elsewhere one line per change."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue_cli.manage import tables
from kexue_cli.manage.store import read_run
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep.job import one_line, read_report, status_of

PERIOD_SECONDS = 0.5
SHOWN_JOBS = 30
ENDED = ("done", "failed")
STYLES = {"done": "green", "failed": "red", "running": "bold", "interrupted": "yellow"}


class Watcher:
    """Reads the states of all jobs; those that have ended are read once."""

    def __init__(self, plan: plans.Plan) -> None:
        self.plan = plan
        self.keys = plans.swept_keys(plan)
        self.states: dict[int, tables.Row] = {}

    def refresh(self) -> list[int]:
        """Read the jobs that may have changed; returns the numbers of those that changed status."""
        changed = []
        for number, job in enumerate(self.plan.jobs):
            before = self.states.get(number)
            if before is not None and before["status"] in ENDED:
                continue
            row = self._row(number, job)
            if before is None or before["status"] != row["status"]:
                changed.append(number)
            self.states[number] = row
        return changed

    def _row(self, number: int, job: tuple[str, ...]) -> tables.Row:
        settings = plans.settings_of(job)
        row: tables.Row = {"job": number, "status": status_of(self.plan, number)}
        row |= {key: settings.get(key) for key in self.keys}
        run_directory = self.plan.run_directory(number)
        if row["status"] == "done":
            primary = read_run(run_directory).primary
            name = f"{primary.get('split')}/{primary.get('name')} " if primary else ""
            row["progress"] = name + tables.shown(primary.get("value"))
            row["time"] = tables.duration(read_report(self.plan, number).get("wall_seconds"))
        elif row["status"] == "running":
            row["progress"] = last_numbers(run_directory / "metrics.jsonl")
        elif row["status"] == "failed":
            row["progress"] = one_line(read_report(self.plan, number).get("error"))[:80]
        return row

    def counts(self) -> str:
        """How many jobs are in which state: "3/6 done, 2 running, 1 failed"."""
        counter = Counter(row["status"] for row in self.states.values())
        parts = [f"{counter.pop('done', 0)}/{len(self.plan.jobs)} done"]
        return ", ".join(parts + [f"{n} {status}" for status, n in sorted(counter.items())])

    def rows(self) -> list[tables.Row]:
        """The rows worth showing where not all fit: those going on and failed first."""
        rank = {"running": 0, "failed": 1, "interrupted": 2, "done": 3, "pending": 4}
        ordered = sorted(
            self.states.values(), key=lambda row: (rank.get(row["status"], 5), row["job"])
        )
        return sorted(ordered[:SHOWN_JOBS], key=lambda row: int(row["job"]))


@contextlib.contextmanager
def watching(plan: plans.Plan) -> Iterator[Watcher]:
    """Show the sweep while the body runs; the display lives in a thread of its own."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    watcher = Watcher(plan)
    # Jobs done earlier are not news.
    watcher.refresh()
    finished = threading.Event()
    show = _live if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(watcher, console, finished), daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        finished.set()
        thread.join()


def _lines(watcher: Watcher, console: Any, finished: threading.Event) -> None:
    while True:
        last_round = finished.wait(PERIOD_SECONDS)
        for number in watcher.refresh():
            row = watcher.states[number]
            settings = " ".join(f"{key}={row[key]}" for key in watcher.keys)
            text = f"job {number} {row['status']}  {settings}  {row.get('progress', '')}"
            console.print(f"{text.rstrip()}  ({watcher.counts()})", markup=False)
        if last_round:
            return


def _live(watcher: Watcher, console: Any, finished: threading.Event) -> None:
    from rich.live import Live

    with Live(_table(watcher), console=console, refresh_per_second=4) as live:
        while not finished.wait(PERIOD_SECONDS):
            watcher.refresh()
            live.update(_table(watcher))
        watcher.refresh()
        live.update(_table(watcher))


def _table(watcher: Watcher) -> Any:
    from rich.table import Table

    table = Table(title=f"{watcher.plan.directory.name}: {watcher.counts()}", title_justify="left")
    for name in ("job", "status", *watcher.keys, "progress", "time"):
        table.add_column(name)
    for row in watcher.rows():
        cells = [
            tables.shown(row.get(name))
            for name in ("job", "status", *watcher.keys, "progress", "time")
        ]
        table.add_row(*cells, style=STYLES.get(row["status"], ""))
    return table


def last_numbers(path: Path) -> str:
    """Step and numbers of the last whole line of a metrics.jsonl, read from its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4096))
            lines = file.read().split(b"\n")[:-1]
        line = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return ""
    numbers = [
        f"{name} {tables.shown(value)}"
        for name, value in line.items()
        if isinstance(value, (int, float)) and name not in ("step", "epoch")
    ]
    return f"step {line.get('step')}  " + "  ".join(numbers[:2])


def elapsed_since(start: float) -> str:
    """Time since `start` (of time.monotonic) in words."""
    return tables.duration(time.monotonic() - start)
