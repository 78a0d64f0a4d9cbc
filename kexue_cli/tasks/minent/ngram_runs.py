"""Runs of (key, count) records in key order: in memory, or on disk, where each is read once."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError

RECORD_BYTES = 16
SAMPLES_PER_RUN = 1024


@dataclass(frozen=True)
class Run:
    """Distinct keys in ascending order and their counts."""

    keys: NDArray[np.uint64]
    counts: NDArray[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def sample(self, step: int) -> NDArray[np.uint64]:
        """Every step-th key, beginning with number step - 1."""
        return self.keys[step - 1 :: step]

    def between(self, low: int, high: int | None) -> Run:
        """The records with low <= key < high."""
        first = int(np.searchsorted(self.keys, np.uint64(low)))
        end = len(self) if high is None else int(np.searchsorted(self.keys, np.uint64(high)))
        return Run(self.keys[first:end], self.counts[first:end].astype(np.uint64))


class Sampled(Protocol):
    """A run of which a sample of the keys is at hand."""

    def __len__(self) -> int:
        """Number of records."""
        ...

    def sample(self, step: int) -> NDArray[np.uint64]:
        """Every step-th key."""
        ...


def sample_step(run: Sampled) -> int:
    """The step at which keys are sampled."""
    return max(1, len(run) // SAMPLES_PER_RUN)


class Scratch:
    """Two files to which runs are appended; each run is read back once, in order, by a `Cursor`."""

    def __init__(self, folder: Path) -> None:
        self.keys = (folder / "keys").open("w+b", buffering=0)
        self.counts = (folder / "counts").open("w+b", buffering=0)

    def append(self, run: Run) -> DiskRun:
        """Write a run; counts in the smallest type that holds them."""
        places = [file.seek(0, os.SEEK_END) for file in (self.keys, self.counts)]
        counts = run.counts.astype(np.min_scalar_type(run.counts.max(initial=0)))
        _write(self.keys, run.keys)
        _write(self.counts, counts)
        step = sample_step(run)
        return DiskRun(self, places[0], places[1], counts.dtype, len(run), run.sample(step).copy())

    def close(self) -> None:
        """Close the files; whoever made the folder removes it."""
        self.keys.close()
        self.counts.close()


def _write(file: BinaryIO, values: NDArray[Any]) -> None:
    """All the values: an unbuffered file may take a part at a time.

    Raises UserError where the disk is full.
    """
    rest = memoryview(values).cast("B")  # type: ignore[arg-type]
    try:
        while len(rest):
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise UserError(
            f"{file.name}: a temporary file cannot be written: {error.strerror}; make room, or set "
            "model.scratch to a folder with more"
        ) from error


def _read(file: BinaryIO, place: int, kind: np.dtype, length: int) -> NDArray[Any]:
    """`length` values from a place in the file, bytes."""
    values = np.empty(length, kind)
    rest = memoryview(values).cast("B")  # type: ignore[arg-type]
    file.seek(place)
    while len(rest):
        read = file.readinto(rest)  # type: ignore[attr-defined]
        if not read:
            raise UserError(f"{file.name}: a temporary file became shorter; start again")
        rest = rest[read:]
    return values


@dataclass(frozen=True)
class DiskRun:
    """A run in the files of a `Scratch`: where its keys and counts begin, bytes; a sample of it."""

    scratch: Scratch
    keys_at: int
    counts_at: int
    count_type: np.dtype
    length: int
    fence: NDArray[np.uint64]

    def __len__(self) -> int:
        return self.length

    def sample(self, step: int) -> NDArray[np.uint64]:
        """As `Run.sample`, for the step of `sample_step`."""
        return self.fence

    def read(self, first: int, length: int) -> Run:
        """`length` records from number `first` on."""
        keys = _read(self.scratch.keys, self.keys_at + 8 * first, np.dtype(np.uint64), length)
        place = self.counts_at + self.count_type.itemsize * first
        return Run(keys, _read(self.scratch.counts, place, self.count_type, length))


AnyRun = Run | DiskRun


class RunStore:
    """Runs in the order in which they came: in memory, or, when that gets too much, on disk.

    `limit` bytes are held in memory; `scratch` is where temporary folders are made. The files are
    gone when the context ends.
    """

    def __init__(self, limit: int, scratch: Path | None) -> None:
        self.runs: list[AnyRun] = []
        self._limit, self._parent = limit, scratch
        self._held = 0
        self._scratch: Scratch | None = None
        self._stack = ExitStack()

    def add(self, run: Run) -> None:
        """Keep a run."""
        self._held += run.keys.nbytes + run.counts.nbytes
        if self._scratch is None and self._held > self._limit:
            self._scratch = Scratch(self._stack.enter_context(scratch_folder(self._parent)))
            self._stack.callback(self._scratch.close)
            self.runs = [self._scratch.append(kept) for kept in self.runs]  # type: ignore[arg-type]
        self.runs.append(run if self._scratch is None else self._scratch.append(run))

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Cursor:
    """Goes through a run once, in key order; what lies on disk is read `buffer` records a time."""

    def __init__(self, run: AnyRun, buffer: int) -> None:
        self.run, self.buffer = run, buffer
        self.held = run if isinstance(run, Run) else run.read(0, min(buffer, len(run)))
        self.read = len(self.held)

    def take(self, high: int | None) -> Run:
        """The records from where it stands up to, not with, the key `high` (None: all)."""
        taken = [self._take_held(high)]
        while self.read < len(self.run) and not len(self.held):
            assert isinstance(self.run, DiskRun)
            self.held = self.run.read(self.read, min(self.buffer, len(self.run) - self.read))
            self.read += len(self.held)
            taken.append(self._take_held(high))
        if len(taken) == 1:
            return taken[0]
        keys, counts = zip(*((part.keys, part.counts) for part in taken), strict=True)
        return Run(np.concatenate(keys), np.concatenate(counts))

    def _take_held(self, high: int | None) -> Run:
        keys, counts = self.held.keys, self.held.counts
        end = len(keys) if high is None else int(np.searchsorted(keys, np.uint64(high)))
        self.held = Run(keys[end:], counts[end:])
        return Run(keys[:end], counts[:end])


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A temporary folder under `parent` (default: the system's), removed whatever happens.

    Those of processes of this machine that were killed are removed first.
    Raises ConfigError where none can be made there.
    """
    with _new_folder(parent) as name:
        yield Path(name)


def _new_folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    machine = f"ngrams-{socket.gethostname()}-"
    try:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{machine}*"):
            owner = left.name.removeprefix(machine).partition("-")[0]
            if owner.isdecimal() and not _runs(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        return tempfile.TemporaryDirectory(prefix=f"{machine}{os.getpid()}-", dir=parent)
    except OSError as error:
        place = "of the system" if parent is None else repr(str(parent))
        raise ConfigError(
            "model.scratch",
            f"expected a folder that can be written, found {place}: {error.strerror}; name another",
        ) from error


def _runs(process: int) -> bool:
    """Whether there may be a process of this number."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
