"""metrics.jsonl: append-only numbers of a run, one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from kexue_cli.run.files import finite

FLUSH_SECONDS = 1.0


class Tracker(Protocol):
    """A mirror of the log in somebody else's format."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the numbers of one step; names carry their split: "valid/macro_f1"."""

    def close(self) -> None:
        """Write what is left."""


class MetricsLog:
    """Call it with a step and numbers: `log(step=3, split="train", loss=0.2)`.

    Lines are held back for at most a second; `position` and `rewind` let a checkpoint remember how
    much of the file belongs to it, so that a resumed run writes the same lines as an unbroken one.
    """

    def __init__(self, path: Path | None, trackers: list[Tracker] | None = None) -> None:
        self.path = path
        self.trackers = trackers or []
        self._file: IO[bytes] | None = None
        self._flushed = time.monotonic()

    def __call__(
        self, *, step: int, split: str = "train", epoch: float | None = None, **metrics: Any
    ) -> None:
        """Append one line; values are numbers or lists of numbers."""
        values = finite(metrics)
        for tracker in self.trackers:
            tracker.log(step, {f"{split}/{k}": v for k, v in values.items() if is_number(v)})
        if self.path is None:
            return
        place = {"step": step, "split": split} | ({} if epoch is None else {"epoch": epoch})
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(json.dumps(place | values, ensure_ascii=False).encode() + b"\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring all lines to the file."""
        if self._file is not None:
            self._file.flush()
        self._flushed = time.monotonic()

    def position(self) -> int:
        """Size of the file in bytes, everything written."""
        self.flush()
        if self.path is None or not self.path.exists():
            return 0
        return self.path.stat().st_size

    def rewind(self, position: int) -> None:
        """Cut the file back to a position that a checkpoint remembered."""
        self.close_file()
        if self.path is not None and self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(position)

    def close_file(self) -> None:
        """Close the file; a later call opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file and every tracker."""
        self.close_file()
        for tracker in self.trackers:
            tracker.close()


def is_number(value: Any) -> bool:
    """Whether a logged value is one number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that is still being written is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
