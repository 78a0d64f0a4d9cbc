"""Text files as blocks of decoded text: globs, folders, compression, encodings, error places."""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.extras import require

BLOCK_BYTES = 1 << 22
PACKED_BYTES = 1 << 14  # of a .zst file, unpacked at a time
GUESSES = ("utf-8", "gb18030", "big5", "utf-16")
# Of escapes that may hold halves of pairs; of names of hosts.
NO_TEXT = ("utf-7", "unicode-escape", "raw-unicode-escape", "punycode", "idna")
TWO_HIGH = re.compile(rb"[\x80-\xff]{2}")
# Most text in Big5 decodes as gb18030, too, but to rare characters.
FREQUENT = "的一是不了在人有我他中大上和也地就出到子這個國來時說这个国来时说，。"


def find_files(path: str, key: str = "data.path") -> list[Path]:
    """Files named by a path, a folder (all its files, recursively, hidden ones excepted) or a glob.

    Raises ConfigError where nothing is found.
    """
    given = Path(path).expanduser()
    try:
        is_file = given.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        expected = "expected a file, a folder or a glob pattern that can be read"
        raise ConfigError(key, f"{path!r}: {error.strerror}; {expected}") from error
    if is_file:
        return [given]
    if given.is_dir():
        found = [file for file in sorted(given.rglob("*")) if file.is_file()]
        found = [f for f in found if not any(p.startswith(".") for p in f.relative_to(given).parts)]
    else:
        found = [Path(name) for name in sorted(glob.glob(str(given), recursive=True))]
        found = [file for file in found if file.is_file()]
    if not found:
        raise ConfigError(key, f"no file at {path!r}; expected a file, a folder or a glob pattern")
    return found


def stored_blocks(path: Path) -> Iterator[bytes]:
    """A file as it is on the disk, packed or not, block by block.

    Raises UserError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def open_binary(path: Path) -> BinaryIO:
    """Open a plain, .gz, .xz or .zst file for reading bytes."""
    match path.suffix:
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        case ".zst":
            return cast(BinaryIO, io.BufferedReader(ZstdFile(path)))
        case _:
            return path.open("rb")


class ZstdFile(io.RawIOBase):
    """The content of a .zst file of one or more frames; an OSError where the last is cut short."""

    def __init__(self, path: Path) -> None:
        self._zstandard = require("zstandard", extra="minent")
        self._file = path.open("rb")
        self._packed, self._content = b"", b""
        self._frame: Any = None

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the beginning; how much of it, 0 at the end."""
        while not self._content:
            self._packed = self._packed or self._file.read(PACKED_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the compressed file is cut short")
                return 0
            self._unpack()
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def _unpack(self) -> None:
        if self._frame is None:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            self._content = self._frame.decompress(self._packed)
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None


def text_blocks(path: Path, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """Decode a file block by block; memory stays bounded whatever the length of its lines.

    Every kind of line end becomes a newline.
    Raises UserError naming the file and the byte where it is binary or not in `encoding`.
    """
    decoder = io.IncrementalNewlineDecoder(decoder_of(encoding), translate=True)
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    position = 0
    try:
        with open_binary(path) as file:
            while block := file.read(block_bytes):
                if not wide and b"\0" in block:
                    raise UserError(_binary(path, position + block.index(b"\0"), block))
                yield _decode(decoder, block, path, encoding, position)
                position += len(block)
        yield _decode(decoder, b"", path, encoding, position)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def decoder_of(encoding: str) -> codecs.IncrementalDecoder:
    """A decoder; a ConfigError for what is no encoding of text."""
    try:
        "".encode(encoding)  # refuses hex and the like, too
        name = codecs.lookup(encoding).name
        if name in NO_TEXT:
            raise LookupError
        return codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else encoding)()
    except (LookupError, UnicodeError):
        raise ConfigError(
            "data.encoding", f"unknown encoding {encoding!r}; for example utf-8, gb18030"
        ) from None


def _decode(
    decoder: io.IncrementalNewlineDecoder, block: bytes, path: Path, encoding: str, position: int
) -> str:
    """Decode one block; `position` is its byte offset in the (unpacked) file."""
    pending = decoder.getstate()[0]
    try:
        return decoder.decode(block, final=not block)
    except UnicodeError as error:
        # UTF-16 without its mark: a bare UnicodeError up to Python 3.12, which names no place.
        if not isinstance(error, UnicodeDecodeError) or "BOM" in error.reason:
            raise UserError(
                f"{path}: not {encoding}: {error}. Set data.encoding to the file's encoding; "
                "without a byte-order mark that may be utf-16-le or utf-16-be"
            ) from None
        byte = position - len(pending) + error.start
        if not block:  # of a whole character nothing would be pending
            raise UserError(
                f"{path}: ends at byte {byte} in the middle of a character: the file is cut short. "
                "Get it whole, or mend its end"
            ) from None
        found = error.object[error.start : error.start + 4].hex(" ")
        raise UserError(
            f"{path}: byte {byte} is not {encoding}: found {found} ({error.reason}). "
            f"{_advice(pending + block, codecs.lookup(encoding).name)}"
        ) from None


def _advice(sample: bytes, encoding: str) -> str:
    """Name the encoding in which the block, cut to whole characters, reads most like Chinese."""
    if encoding != "cp1252" and not TWO_HIGH.search(sample):  # single letters with accents
        return "Bytes beyond ASCII stand alone: try data.encoding=cp1252"
    texts = {guess: _decoded(sample, guess) for guess in GUESSES if guess != encoding}
    readable = {guess: text for guess, text in texts.items() if text is not None}
    if not readable:
        return "Set data.encoding to the file's encoding, or mend the file"
    best = max(readable, key=lambda guess: sum(map(readable[guess].count, FREQUENT)))
    return f"The block does decode as {best}: try data.encoding={best}"


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample[: len(sample) // 2 * 2])
    except UnicodeError:
        return None


def _binary(path: Path, byte: int, block: bytes) -> str:
    hint = (
        " (a UTF-16 file: set data.encoding=utf-16)"
        if block[:2] in (b"\xff\xfe", b"\xfe\xff")
        else ""
    )
    return f"{path}: expected text, found a zero byte at byte {byte}: this is a binary file{hint}"
