"""Runs merged in bounded memory; the counts file.

A folder of counts holds
    keys.u64     distinct keys in ascending order, little-endian uint64
    counts.u64   their counts, little-endian uint64
    counts.json  {"format": 1, "order", "bits", "first_symbol", "rule", "records",
                  "code_points": [...]}: code_points[i] is the character of symbol i + first_symbol
A key packs `order` symbols of `bits` bits, the first highest; see docs/minent_counts.md.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.ngram_kernels import merge_add
from kexue_cli.tasks.minent.ngram_runs import AnyRun, Cursor, Run, Sampled, sample_step

FORMAT = 1


def add_runs(runs: Sequence[Run]) -> Run:
    """Merge runs in memory, adding the counts of equal keys: a tree of two-way merges."""
    if not runs:
        return Run(np.empty(0, np.uint64), np.empty(0, np.uint64))
    if len(runs) == 1:
        return Run(runs[0].keys, runs[0].counts.astype(np.uint64, copy=False))
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


def merged(
    runs: Sequence[AnyRun], records: int, buffer: int, pool: Executor, ahead: int
) -> Iterator[Run]:
    """Merge runs range by range in ascending key order, `ahead` ranges at a time.

    Every run is read once, from its first record to its last, `buffer` records at a time.
    """
    cursors = [Cursor(run, buffer) for run in runs]
    waiting: deque[Future[Run]] = deque()
    for _, high in merge_ranges(runs, records):
        parts = [part for part in (cursor.take(high) for cursor in cursors) if len(part)]
        waiting.append(pool.submit(add_runs, parts))
        del parts
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
