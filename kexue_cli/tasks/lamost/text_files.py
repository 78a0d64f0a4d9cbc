"""Where the text files of a set lie: in folders, in zips, or in zips within folders."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.labels import require_unique

SUFFIX = ".txt"
LOCAL_HEADER_BYTES = 30
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

# Columns instead of objects: a set of half a million files stays within 100 MB.
ENTRY = np.dtype(
    [
        ("container", np.int32),  # number of the folder or zip
        ("offset", np.int64),  # of the member's header in a zip; -1 for a plain file
        ("packed_bytes", np.int64),
        ("bytes", np.int64),
        ("stamp", np.int64),  # CRC-32 of a zip's member, modification time of a plain file in ns
        ("method", np.int16),  # compression of a zip's member
    ]
)


@dataclass(frozen=True)
class Listing:
    """The text files found: `ids` (n,) are their names without .txt, `entries` (n,) their place."""

    containers: tuple[str, ...]
    ids: NDArray[np.str_]
    entries: NDArray[np.void]

    def take(self, rows: NDArray[np.int64]) -> Listing:
        """The files of these rows, in this order."""
        return Listing(self.containers, self.ids[rows], self.entries[rows])

    def name(self, row: int) -> str:
        """The file of a row as a person would name it."""
        container = self.containers[self.entries["container"][row]]
        return os.path.join(container, f"{self.ids[row]}{SUFFIX}")


def list_text_files(places: tuple[Path, ...]) -> Listing:
    """All *.txt in folders (searched recursively) and zips, sorted by id.

    Raises:
        UserError: a place that is not there, without text files, a damaged zip, one id twice.
    """
    containers: list[str] = []
    ids: list[str] = []
    entries: list[tuple[int, int, int, int, int, int]] = []
    for place in places:
        if not place.exists():
            raise UserError(f"{place}: no such folder or zip. It holds one <id>.txt per spectrum.")
        for container, found in _walk(place):
            containers.append(str(container))
            for name, *entry in found:
                ids.append(name)
                entries.append((len(containers) - 1, *entry))  # type: ignore[arg-type]
    where = ", ".join(map(str, places))
    if not ids:
        raise UserError(f"{where}: no *.txt file in it. It holds one <id>.txt per spectrum.")
    listing = Listing(tuple(containers), np.array(ids), np.array(entries, dtype=ENTRY))
    require_unique(listing.ids, where)
    return listing.take(np.argsort(listing.ids))


Found = Iterator[tuple[str, int, int, int, int, int]]


def _walk(place: Path) -> Iterator[tuple[Path, Found]]:
    """Every folder and zip at or below `place`, with what it holds."""
    if place.is_file():
        yield place, _in_zip(place)
        return
    for folder, below, files in os.walk(place):
        below.sort()
        yield Path(folder), _in_folder(folder)
        for name in sorted(files):
            if name.endswith(".zip"):
                yield Path(folder, name), _in_zip(Path(folder, name))


def _in_folder(folder: str) -> Found:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and entry.is_file():
                stat = entry.stat()
                name = entry.name.removesuffix(SUFFIX)
                yield name, -1, stat.st_size, stat.st_size, stat.st_mtime_ns, STORED


def _in_zip(path: Path) -> Found:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path}: not a whole zip file ({error}). The download may have been cut off: "
            "compare its size with the source and fetch it again."
        ) from error
    for member in members:
        name = member.filename.rpartition("/")[2]
        if not name.endswith(SUFFIX) or member.filename.startswith("__MACOSX"):
            continue
        if member.flag_bits & 1 or member.compress_type not in (STORED, DEFLATED):
            raise UserError(
                f"{path}: {member.filename} is encrypted or packed in a way other than deflate. "
                "Unpack the zip and name the folder instead."
            )
        place = (member.header_offset, member.compress_size, member.file_size)
        yield name.removesuffix(SUFFIX), *place, member.CRC, member.compress_type


class TextReader:
    """Reads the files of a listing; zips stay open. Several threads may read at once."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self._files = ExitStack()
        self._zips: dict[int, int] = {}

    def __enter__(self) -> TextReader:
        used = np.unique(self.listing.entries["container"][self.listing.entries["offset"] >= 0])
        for container in used:
            file = self._files.enter_context(open(self.listing.containers[container], "rb"))
            self._zips[int(container)] = file.fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._files.close()

    def plain(self, rows: range) -> tuple[list[str], NDArray[np.int64]] | None:
        """Names and sizes of these files; None if one of them lies in a zip."""
        entries = self.listing.entries[rows.start : rows.stop]
        if (entries["offset"] >= 0).any():
            return None
        return [self.listing.name(row) for row in rows], entries["bytes"]

    def read(self, row: int) -> bytes:
        """The content of a row's file.

        Raises:
            UserError: a file that has gone or cannot be read, a damaged member of a zip.
        """
        entry = self.listing.entries[row]
        try:
            if entry["offset"] < 0:
                return self._read_file(row, int(entry["bytes"]))
            return self._read_member(row, entry)
        except OSError as error:
            raise UserError(f"{self.listing.name(row)}: cannot be read: {error}") from error

    def _read_file(self, row: int, size: int) -> bytes:
        # Bare system calls: a file object would cost more than parsing the content.
        descriptor = os.open(self.listing.name(row), os.O_RDONLY)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def _read_member(self, row: int, entry: np.void) -> bytes:
        descriptor, offset = self._zips[int(entry["container"])], int(entry["offset"])
        header = os.pread(descriptor, LOCAL_HEADER_BYTES, offset)
        if len(header) < LOCAL_HEADER_BYTES:
            raise self._damaged(row)
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        start = offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        packed = os.pread(descriptor, int(entry["packed_bytes"]), start)
        try:
            text = zlib.decompress(packed, -15) if entry["method"] == DEFLATED else packed
        except zlib.error as error:
            raise self._damaged(row) from error
        if zlib.crc32(text) != entry["stamp"]:
            raise self._damaged(row)
        return text

    def _damaged(self, row: int) -> UserError:
        return UserError(
            f"{self.listing.name(row)}: this member of the zip is damaged (its checksum differs). "
            "Fetch the zip again."
        )
