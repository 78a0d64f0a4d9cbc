"""Downloads that survive broken connections: continued where they stopped, checked by pooch."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.manage.datasets import DataFile, hash_of
from kexue_cli.paths import cache_dir
from kexue_cli.run.files import replacing

ATTEMPTS = 5
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 13  # at most this much is lost when a connection breaks
FIRST_PAUSE_SECONDS = 0.5
Say = Callable[[str], None]


class ResumingDownloader:
    """A downloader for pooch: keeps what arrived in a .part file and asks for the rest.

    Raises:
        UserError: the server refuses, or the connection broke ATTEMPTS times in a row.
    """

    def __init__(self, part: Path, say: Say, pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        self.part = part
        self.say = say
        self.pause_seconds = pause_seconds

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        """Download `url` and hand it to pooch, which checks and moves it."""
        requests = require("requests", extra="data")
        failures = 0
        while True:
            had = self._size()
            try:
                self._continue(requests, url)
                break
            except (requests.ConnectionError, requests.Timeout, _Broken) as error:
                # Attempts count only while nothing arrives: a slow, flaky line still gets there.
                failures = 1 if self._size() > had else failures + 1
                if failures >= ATTEMPTS:
                    raise UserError(
                        f"{url}: the connection broke {failures} times ({error}). "
                        "What has arrived is kept: the same command goes on from there"
                    ) from error
                self.say(f"  connection lost at {self._size():,} bytes, going on")
                time.sleep(self.pause_seconds * 2 ** (failures - 1))
        self.part.replace(output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _continue(self, requests: Any, url: str) -> None:
        """Ask for what is missing; a server that cannot do that sends everything again."""
        start = self._size()
        # Compressed transfer would make the numbers of bytes meaningless.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            if response.status_code == 416:
                # Nothing is left, or the part does not belong to this file: the checksum decides.
                if response.headers.get("Content-Range") != f"bytes */{start}":
                    self.part.unlink()
                    raise _Broken("the part here is longer than the file there")
                return
            if response.status_code >= 500:
                raise _Broken(f"the server says {response.status_code}")
            if response.status_code >= 400:
                raise UserError(f"{url}: the server says {response.status_code} {response.reason}")
            continues = response.status_code == 206
            with self.part.open("ab" if continues else "wb") as file:
                _copy(requests, response, file)


class _Broken(Exception):
    """The transfer stopped before its end."""


def _copy(requests: Any, response: Any, file: Any) -> None:
    expected = response.headers.get("Content-Length")
    received = 0
    try:
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Broken(str(error)) from error
    if expected is not None and received < int(expected):
        raise _Broken(f"{received:,} of {int(expected):,} bytes arrived")


def fetch(
    file: DataFile, folder: Path, say: Say, pause_seconds: float = FIRST_PAUSE_SECONDS
) -> None:
    """Bring one file of a data set into `folder`, whole and checked, or not at all.

    Raises:
        UserError: no connection, or what arrives twice has not the checksum of the catalogue.
    """
    assert file.url is not None
    if file.member is not None:
        archive = archive_path(file)
        if not archive.exists():
            _retrieve(file.url, None, archive, say, pause_seconds)
        unpack(file, archive, folder)
        return
    _retrieve(file.url, file.known_hash, folder / file.path, say, pause_seconds)


def archive_path(file: DataFile) -> Path:
    """Where a downloaded archive is kept, so that its other members need no second download."""
    assert file.url is not None
    parts = file.url.partition("://")[2].split("/")
    return cache_dir() / "downloads" / "-".join([*parts[1:3], parts[-1]])


def _retrieve(url: str, known_hash: str | None, path: Path, say: Say, pause_seconds: float) -> None:
    pooch = require("pooch", extra="data")
    pooch.get_logger().setLevel("ERROR")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if path.exists():
        # pooch would warn about replacing it; it is here because its checksum is wrong.
        path.unlink()
    for attempt in (1, 2):
        downloader = ResumingDownloader(part, say, pause_seconds)
        try:
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=downloader)
            return
        except ValueError as error:
            # A part left by an earlier version of the file spoils the whole: once more from zero.
            if attempt == 2:
                raise UserError(
                    f"{url}: what the server sends is not what the catalogue describes "
                    f"(expected {known_hash}). Nothing was kept. {_first_line(error)}"
                ) from error
            say("  wrong checksum, once more from the beginning")


def unpack(file: DataFile, archive: Path, folder: Path) -> None:
    """Take one member out of an archive (zip, tar, tar.gz), checked.

    Raises:
        UserError: no such member, not an archive, or a wrong checksum.
    """
    assert file.member is not None
    target = folder / file.path
    with replacing(target) as temporary:
        temporary.write_bytes(_member(archive, file.member))
        if file.known_hash is not None:
            found = hash_of(temporary, file.known_hash)
            if found != file.known_hash:
                raise UserError(
                    f"{archive}: its member {file.member} has {found}, expected {file.known_hash}. "
                    "Delete the archive and fetch again"
                )


def _member(archive: Path, member: str) -> bytes:
    import tarfile

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                # Archives differ in the folder they wrap around the same files.
                names = [n for n in opened.namelist() if n == member or n.endswith(f"/{member}")]
                return opened.read(names[0])
        with tarfile.open(archive) as tar:
            extracted = tar.extractfile(member)
            assert extracted is not None
            return extracted.read()
    except (KeyError, IndexError) as error:
        raise UserError(f"{archive} has no member {member}") from error
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{archive} is no whole archive ({error}). Delete it and fetch again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
