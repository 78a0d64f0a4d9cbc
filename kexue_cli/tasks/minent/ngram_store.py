"""Runs of (key, count) records: in memory or on disk, merged in bounded memory; the counts file.

A folder of counts holds
    keys.u64     distinct keys in ascending order, little-endian uint64
    counts.u64   their counts, little-endian uint64
    counts.json  {"format": 1, "order", "bits", "first_symbol", "rule", "records",
                  "code_points": [...]}: code_points[i] is the character of symbol i + first_symbol
A key packs `order` symbols of `bits` bits, the first highest; see docs/minent_counts.md.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.ngram_kernels import merge_add

RECORD_BYTES = 16
SAMPLES_PER_RUN = 1024
FORMAT = 1


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


class DiskRun:
    """A run in two files of a folder, of which only the wanted range is read into memory."""

    def __init__(self, run: Run, folder: Path, name: str) -> None:
        self.keys_file, self.counts_file = folder / f"{name}.keys", folder / f"{name}.counts"
        run.keys.tofile(self.keys_file)
        run.counts.tofile(self.counts_file)
        self.count_type = run.counts.dtype
        self.length = len(run)
        self.step = sample_step(run)
        self.fence = run.sample(self.step).copy()

    def __len__(self) -> int:
        return self.length

    def sample(self, step: int) -> NDArray[np.uint64]:
        """As `Run.sample`, for the step at which the fence was kept."""
        assert step == self.step
        return self.fence

    def between(self, low: int, high: int | None) -> Run:
        """The records with low <= key < high, read from disk."""
        first = self._place(low)
        count = (self.length if high is None else self._place(high)) - first
        width = self.count_type.itemsize
        keys = np.fromfile(self.keys_file, np.uint64, count, offset=first * 8)
        counts = np.fromfile(self.counts_file, self.count_type, count, offset=first * width)
        return Run(keys, counts.astype(np.uint64))

    def _place(self, key: int) -> int:
        """How many keys are smaller: the fence tells the stretch, the stretch is read."""
        start = int(np.searchsorted(self.fence, np.uint64(key))) * self.step
        stretch = np.fromfile(self.keys_file, np.uint64, self.step, offset=start * 8)
        return start + int(np.searchsorted(stretch, np.uint64(key)))


AnyRun = Run | DiskRun


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


def add_runs(runs: Sequence[Run]) -> Run:
    """Merge runs in memory, adding the counts of equal keys: a tree of two-way merges."""
    if not runs:
        return Run(np.empty(0, np.uint64), np.empty(0, np.uint64))
    if len(runs) == 1:
        return runs[0]
    a, b = add_runs(runs[: len(runs) // 2]), add_runs(runs[len(runs) // 2 :])
    keys = np.empty(len(a.keys) + len(b.keys), np.uint64)
    counts = np.empty(len(keys), np.uint64)
    length = merge_add(a.keys, a.counts, b.keys, b.counts, keys, counts)
    return Run(keys[:length], counts[:length])


def merge_ranges(runs: Sequence[Sampled], records: int) -> list[tuple[int, int | None]]:
    """Cut the key space so that each range holds about `records` records of all runs together."""
    steps = [sample_step(run) for run in runs]
    samples = [run.sample(step) for run, step in zip(runs, steps, strict=True)]
    keys = np.concatenate([np.empty(0, np.uint64), *samples])
    weights = np.repeat(steps, [len(s) for s in samples]) if runs else np.empty(0, np.int64)
    order = np.argsort(keys)
    before = np.cumsum(weights[order])
    borders = keys[order][before // records != (before - weights[order]) // records]
    lows = [0, *map(int, np.unique(borders))]
    return list(zip(lows, [*lows[1:], None], strict=True))


def merged(runs: Sequence[AnyRun], records: int, pool: Executor, ahead: int) -> Iterator[Run]:
    """Merge runs range by range in ascending key order, `ahead` ranges at a time."""

    def merge_range(low: int, high: int | None) -> Run:
        return add_runs([run.between(low, high) for run in runs])

    waiting: deque[Future[Run]] = deque()
    for low, high in merge_ranges(runs, records):
        waiting.append(pool.submit(merge_range, low, high))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A temporary folder under `parent` (default: the system's), removed whatever happens.

    Those of processes of this machine that were killed are removed first.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    parent.mkdir(parents=True, exist_ok=True)
    machine = f"ngrams-{socket.gethostname()}-"
    for left in parent.glob(f"{machine}*"):
        owner = left.name.removeprefix(machine).partition("-")[0]
        if owner.isdecimal() and not _runs(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{machine}{os.getpid()}-", dir=parent) as name:
        yield Path(name)


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


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes its name only when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mapped(path: Path) -> NDArray[np.uint64]:
    """A file as a read-only array; an empty file as an empty array."""
    return np.memmap(path, "<u8", mode="r") if path.stat().st_size else np.empty(0, np.uint64)


def write_records(folder: Path, parts: Iterator[Run]) -> int:
    """Append the runs to keys.u64 and counts.u64 of a folder; returns the number of records."""
    records = 0
    with (folder / "keys.u64").open("wb") as keys, (folder / "counts.u64").open("wb") as counts:
        for part in parts:
            part.keys.astype("<u8", copy=False).tofile(keys)
            part.counts.astype("<u8", copy=False).tofile(counts)
            records += len(part.keys)
    return records


def write_header(folder: Path, header: dict[str, object]) -> None:
    """Write counts.json."""
    (folder / "counts.json").write_text(json.dumps({"format": FORMAT, **header}), encoding="utf-8")


def read_folder(folder: Path) -> tuple[dict, Run]:
    """The header and the records (mapped) of a counts folder.

    Raises UserError naming the file that is missing, of another format or of the wrong size.
    """
    try:
        header = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        run = Run(_mapped(folder / "keys.u64"), _mapped(folder / "counts.u64"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: expected a folder of n-gram counts: {error}") from error
    if header.get("format") != FORMAT:
        raise UserError(
            f"{folder}/counts.json: expected format {FORMAT}, found {header.get('format')}"
        )
    for name, found in (("keys.u64", len(run.keys)), ("counts.u64", len(run.counts))):
        if found != header["records"]:
            raise UserError(f"{folder}/{name}: expected {header['records']} records, found {found}")
    return header, run
