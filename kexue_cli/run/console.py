"""What a user sees of a run: lines, tables, a progress bar (plain lines without a terminal)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_LINE_SECONDS = 10.0
REFRESH_SECONDS = 0.2


class Console:
    """Says things on the terminal and in run.log; a quiet one (other ranks) says nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.rich = RichConsole(quiet=quiet, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self._log: IO[str] | None = None

    def open_log(self, path: Path) -> None:
        """Repeat everything that is said in this file from now on."""
        if not self.quiet:
            self._log = path.open("a", encoding="utf-8")

    def close_log(self) -> None:
        """Stop repeating."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def say(self, text: str) -> None:
        """One line (or several) of plain text."""
        self.rich.print(text, markup=False)
        self.to_log(text)

    def warn(self, text: str) -> None:
        """A line that something is not as it should be, though the run goes on."""
        self.rich.print(f"warning: {text}", markup=False, style="yellow")
        self.to_log(f"warning: {text}")

    def to_log(self, text: str) -> None:
        """A line for run.log alone."""
        if self._log is not None:
            self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            self._log.flush()

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of equal keys as a table; numbers get four digits after the point."""
        if not rows:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for name in rows[0]:
            numeric = all(isinstance(row[name], (int, float)) or row[name] == "" for row in rows)
            table.add_column(str(name), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(show(value) for value in row.values()))
        self.rich.print(table, soft_wrap=False)
        self.to_log(f"{title}: " + "; ".join(_as_text(row) for row in rows))

    @contextlib.contextmanager
    def progress(
        self, total: int | None, description: str, unit: str = "steps", done: int = 0
    ) -> Iterator[Meter]:
        """Show how far a piece of work is; `unit` names what the rate counts."""
        bar = _bar(self.rich) if self.rich.is_terminal and not self.quiet else None
        meter = Meter(self, total, description, unit, done, bar)
        if bar is None:
            yield meter
            return
        with bar:
            yield meter


class Meter:
    """Progress of one piece of work: `advance` it, with numbers to show beside it."""

    def __init__(
        self,
        console: Console,
        total: int | None,
        description: str,
        unit: str,
        done: int,
        bar: Progress | None,
    ) -> None:
        self.console, self.total, self.description, self.unit = console, total, description, unit
        self.done = done
        self.shown: dict[str, Any] = {}
        self._bar = bar
        self._items = 0.0
        self._started = self._drawn = time.monotonic()
        self._at_start = done
        if bar is not None:
            self._id = bar.add_task(description, total=total, completed=done, rate="", shown="")

    @property
    def is_due(self) -> bool:
        """Whether the next `advance` will draw, so that numbers are worth fetching."""
        pause = REFRESH_SECONDS if self._bar is not None else PLAIN_LINE_SECONDS
        return time.monotonic() - self._drawn >= pause

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self._items / max(time.monotonic() - self._started, 1e-9)

    def advance(self, n: int = 1, items: float | None = None, **shown: Any) -> None:
        """Count n done (of `items` units, n if not given) and update the numbers shown."""
        self.done += n
        self._items += n if items is None else items
        self.shown.update(shown)
        if self.is_due:
            self.draw()

    def show(self, **shown: Any) -> None:
        """Update the numbers shown without counting."""
        self.shown.update(shown)

    def draw(self) -> None:
        """Draw now: the bar on a terminal, one line elsewhere."""
        self._drawn = time.monotonic()
        numbers = "  ".join(f"{name} {show(value)}" for name, value in self.shown.items())
        rate = f"{self.rate:,.4g} {self.unit}/s"
        if self._bar is not None:
            self._bar.update(self._id, completed=self.done, rate=rate, shown=numbers)
            return
        of_total = f"/{self.total}" if self.total is not None else ""
        line = f"{self.description} {self.done}{of_total}  {rate}  {self._eta()}{numbers}"
        self.console.say(line.rstrip())

    def _eta(self) -> str:
        progressed = self.done - self._at_start
        if not self.total or progressed <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / progressed * (self.total - self.done)
        return f"ETA {int(seconds) // 60}:{int(seconds) % 60:02d}  "


def _bar(console: RichConsole) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[shown]}"),
        console=console,
        transient=True,
    )


def show(value: Any) -> str:
    """A number as a person reads it."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.4g}"
    return str(value)


def _as_text(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={show(value)}" for name, value in row.items())
