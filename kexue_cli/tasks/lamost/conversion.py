"""Files of spectra converted once into a memory-mapped array, in a cache keyed by content.

A conversion writes into `<key>.partial/` and keeps a journal of the chunks that are safely on
disk; only when every chunk is there does a rename to `<key>/` make the cache valid. An
interrupted conversion goes on from its journal, and memory stays constant because every
chunk is written to its place in the file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.run.cores import available_cores
from kexue_cli.run.files import replacing, write_json, write_text
from kexue_cli.tasks.lamost.normalise import Quality, inspect

FORMAT = 2  # of the cache; counted up when its layout or the parser's results change
ROWS_PER_CHUNK = 256
CHUNKS_PER_COMMIT = 64  # a power cut costs at most this much work
CACHE_ADVICE = "Make room, or set KEXUE_CACHE_DIR to a folder on a larger disk."


# Flux (stop - start, length) of rows start to stop, and a note for each of them (or none at all).
ReadRows = Callable[[int, int], tuple[NDArray[np.float32], list[Any]]]


@dataclass(frozen=True)
class Converted:
    """The result: read-only flux (n, length) float32 on disk, its sha256, its oddities, notes."""

    flux: NDArray[np.float32]
    checksum: str
    quality: Quality
    notes: list[Any]


@dataclass(frozen=True)
class Conversion:
    """What is to be converted: `shape` of the flux, a `key` that names the content, how to read.

    `read_rows` is called from several threads.
    """

    key: str
    shape: tuple[int, int]
    read_rows: ReadRows

    @property
    def starts(self) -> range:
        """First row of each chunk."""
        return range(0, self.shape[0], ROWS_PER_CHUNK)

    def rows(self, start: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Flux of the chunk that begins at `start`, and what the journal keeps of it."""
        flux, notes = self.read_rows(start, min(start + ROWS_PER_CHUNK, self.shape[0]))
        facts = asdict(inspect(flux))
        for rows in ("empty_rows", "constant_rows"):
            facts[rows] = [start + row for row in facts[rows]]
        digest = hashlib.sha256(flux.data).hexdigest()
        return flux, {"start": start, "sha256": digest, "notes": notes, **facts}


def key_of(ids: NDArray[np.str_], sizes: Any, stamps: Any, *settings: object) -> str:
    """Names a content: ids in order, sizes (n,), checksums or modification times (n,), settings."""
    content = hashlib.sha256(repr((FORMAT, len(ids), *settings)).encode())
    content.update("\n".join(ids.tolist()).encode())
    for column in (sizes, stamps):
        content.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return content.hexdigest()[:32]


def convert(
    wanted: Conversion, cache_dir: Path, console: Any, workers: int | None = None
) -> Converted:
    """The wanted flux from the cache, or converted into it now by `workers` threads.

    Raises:
        UserError: what `read_rows` raises, or no room on the disk; nothing is left behind then.
    """
    folder = cache_dir / "lamost" / wanted.key
    if not (folder / "meta.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_suffix(".lock")):
            if not (folder / "meta.json").is_file():  # nobody else made it while we waited
                _fill(folder, wanted, console, workers or available_cores())
    meta = json.loads((folder / "meta.json").read_text())
    flux = np.load(folder / "flux.npy", mmap_mode="r")
    return Converted(flux, meta["checksum"], Quality(**meta["quality"]), meta["notes"])


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold a lock between processes, so that runs of a sweep do not convert the same set twice."""
    with lock.open("w") as file:  # stays: a lock file that goes could be held twice
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(folder: Path, wanted: Conversion, console: Any, workers: int) -> None:
    partial = folder.with_suffix(".partial")
    if not partial.exists():
        _require_space(folder.parent, 4 * wanted.shape[0] * wanted.shape[1])
    partial.mkdir(exist_ok=True)
    try:
        with Journal(partial / "journal.jsonl") as journal:
            _convert_chunks(partial / "flux.npy", wanted, journal, console, workers)
            _write_meta(partial / "meta.json", journal)
    except UserError:
        shutil.rmtree(partial)
        raise
    except OSError as error:
        shutil.rmtree(partial)
        raise UserError(f"{partial}: cannot be written: {error}. {CACHE_ADVICE}") from error
    partial.replace(folder)


def _require_space(cache: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < needed_bytes:
        raise UserError(
            f"{cache}: the converted spectra need {needed_bytes / 1e9:.1f} GB, but only "
            f"{free / 1e9:.1f} GB are free. {CACHE_ADVICE}"
        )


def _convert_chunks(
    path: Path, wanted: Conversion, journal: Journal, console: Any, workers: int
) -> None:
    """Convert what the journal lacks, several chunks at a time."""
    n, length = wanted.shape
    if not path.exists():
        journal.forget()
        with replacing(path) as temporary:
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=wanted.shape)
    first_byte = path.stat().st_size - 4 * n * length
    with (
        path.open("r+b") as file,
        ThreadPoolExecutor(workers) as threads,
        console.progress(n, "converting", unit="spectra", done=journal.rows) as meter,
        journal.committing(file),
    ):

        def chunk(start: int) -> dict[str, Any]:
            flux, facts = wanted.rows(start)
            written = os.pwrite(file.fileno(), flux.data, first_byte + 4 * start * length)
            if written < flux.nbytes:  # what a disk does that is just getting full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return facts

        futures = [threads.submit(chunk, start) for start in wanted.starts if start not in journal]
        try:
            for future in as_completed(futures):
                meter.advance(journal.add(future.result()))
        finally:
            threads.shutdown(cancel_futures=True)


class Journal:
    """One line of JSON for each chunk that is in the file for good."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[int, dict[str, Any]] = {}
        self._pending: list[dict[str, Any]] = []

    def __enter__(self) -> Journal:
        text = self.path.read_text() if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a line cut off by a power cut is done again
        if len(whole) < len(text):
            write_text(self.path, whole)
        self.done = {facts["start"]: facts for facts in map(json.loads, whole.splitlines())}
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.clear()

    def forget(self) -> None:
        """Start over: the array that the lines speak of is not there."""
        self.done.clear()
        self.path.unlink(missing_ok=True)

    def __contains__(self, start: object) -> bool:
        return start in self.done

    @property
    def rows(self) -> int:
        """How many rows are done."""
        return sum(facts["rows"] for facts in self.done.values())

    def add(self, facts: dict[str, Any]) -> int:
        """Note a finished chunk; returns its number of rows."""
        self.done[facts["start"]] = facts
        self._pending.append(facts)
        if len(self._pending) >= CHUNKS_PER_COMMIT:
            self._commit()
        return int(facts["rows"])

    @contextmanager
    def committing(self, file: IO[bytes]) -> Iterator[None]:
        """Write pending lines at the end, however it ends, always after the data of `file`."""
        self._file = file
        try:
            yield
        finally:
            self._commit()

    def _commit(self) -> None:
        os.fsync(self._file.fileno())
        with self.path.open("a") as journal:
            journal.writelines(json.dumps(facts) + "\n" for facts in self._pending)
            journal.flush()
            os.fsync(journal.fileno())
        self._pending.clear()


def _write_meta(path: Path, journal: Journal) -> None:
    chunks = [journal.done[start] for start in sorted(journal.done)]
    content = hashlib.sha256("".join(facts["sha256"] for facts in chunks).encode())
    quality = Quality(
        rows=journal.rows,
        missing_pixels=sum(facts["missing_pixels"] for facts in chunks),
        incomplete_rows=sum(facts["incomplete_rows"] for facts in chunks),
        empty_rows=[row for facts in chunks for row in facts["empty_rows"]],
        constant_rows=[row for facts in chunks for row in facts["constant_rows"]],
    )
    notes = [note for facts in chunks for note in facts["notes"]]
    facts = {"checksum": content.hexdigest(), "quality": asdict(quality), "notes": notes}
    write_json(path, facts)
