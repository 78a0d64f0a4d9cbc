"""Text files as blocks of decoded text: globs, folders, compression, encodings, error places."""

from __future__ import annotations

import bz2
import codecs
import errno
import glob
import gzip
import io
import lzma
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.extras import require

BLOCK_BYTES = 1 << 22
PACKED_BYTES = 1 << 14  # of a .xz or .zst file, unpacked at a time
UNPACKED_BYTES = 1 << 20  # of a .xz file: a page of zeros holds megabytes
PACKINGS = ".gz, .bz2, .xz and .zst files are unpacked, known by their names"
UNIT_BYTES = {"utf-16": 2, "utf-32": 4}  # of encodings in which a zero byte is no character
GUESSES = ("utf-8", "gb18030", "big5", "utf-16")
# Of escapes that may hold halves of pairs; of names of hosts.
NO_TEXT = ("utf-7", "unicode-escape", "raw-unicode-escape", "punycode", "idna")
TWO_HIGH = re.compile(rb"[\x80-\xff]{2}")
# Most text in Big5 decodes as gb18030, too, but to rare characters.
FREQUENT = "的一是不了在人有我他中大上和也地就出到子這個國來時說这个国来时说，。"


def places(path: Any) -> list[str]:
    """One path, folder or glob, or a list of them, as a list."""
    several = isinstance(path, Sequence) and not isinstance(path, str)
    return [str(place) for place in (path if several else [path])]


def find_files(path: str, key: str = "data.path") -> list[Path]:
    """Files named by a path, a folder (all its files, recursively, hidden ones excepted) or a glob.

    Raises ConfigError where nothing is found.
    """
    given = Path(path).expanduser()
    is_there = _is_there(given, path, key)
    if is_there and not given.is_dir():
        return [given]
    if is_there:
        found = [file for file in sorted(given.rglob("*")) if file.is_file()]
        found = [f for f in found if not any(p.startswith(".") for p in f.relative_to(given).parts)]
    else:
        found = [Path(name) for name in sorted(glob.glob(str(given), recursive=True))]
        found = [file for file in found if file.is_file()]
    if not found:
        raise _no_file(path, key)
    return found


def check_place(path: str, key: str = "data.path") -> None:
    """Raise ConfigError where nothing is at a path and nothing matches it: a quick first look."""
    given = Path(path).expanduser()
    if not _is_there(given, path, key) and not any(glob.iglob(str(given), recursive=True)):
        raise _no_file(path, key)


def _is_there(given: Path, path: str, key: str) -> bool:
    """Whether there is a file or a folder; raises ConfigError for what cannot be read as one."""
    try:
        mode = given.stat().st_mode
    except ValueError:  # a zero byte in the name
        return False
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        # A name too long, a folder that may not be entered.
        expected = "expected a file, a folder or a glob pattern that can be read"
        raise ConfigError(key, f"{path!r}: {error.strerror}; {expected}") from error
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    raise ConfigError(
        key,
        f"{path!r} is a pipe or a device, which can be read only once, and a text is read several "
        "times: write it to a file and give that",
    )


def _no_file(path: str, key: str) -> ConfigError:
    return ConfigError(key, f"no file at {path!r}; expected a file, a folder or a glob pattern")


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
    """Open a plain or a packed file for reading bytes; the end of its name tells."""
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, io.BufferedReader(PackedFile(path, unpacked_xz)))
        case ".zst":
            return cast(BinaryIO, io.BufferedReader(PackedFile(path, unpacked_zst)))
        case _:
            return path.open("rb")


class PackedFile(io.RawIOBase):
    """The content of a packed file; `unpack` makes parts of it from the open file."""

    def __init__(self, path: Path, unpack: Callable[[BinaryIO], Iterator[bytes]]) -> None:
        self._file = path.open("rb")
        self._parts = unpack(self._file)
        self._content = b""

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
            part = next(self._parts, None)
            if part is None:
                return 0
            self._content = part
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size


def unpacked_zst(file: BinaryIO) -> Iterator[bytes]:
    """The content of a .zst file of any number of frames.

    Raises OSError where it is damaged, EOFError where its last frame is cut short.
    """
    zstandard = require("zstandard", extra="minent")
    frame, packed = None, b""
    while packed or (packed := file.read(PACKED_BYTES)):
        frame = frame or zstandard.ZstdDecompressor().decompressobj()
        try:
            yield frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the compressed file is cut short")


def unpacked_xz(file: BinaryIO) -> Iterator[bytes]:
    """The content of a .xz file of one or more streams, each of which zero bytes may follow.

    Python's own reader takes those for a stream that is cut short.
    Raises LZMAError where it is damaged, EOFError where its last stream is cut short.
    """
    stream, packed, zeros = lzma.LZMADecompressor(lzma.FORMAT_XZ), b"", 0
    while packed or (packed := file.read(PACKED_BYTES)):
        if stream.eof:
            size = len(packed)
            packed = packed.lstrip(b"\0")
            zeros += size - len(packed)
            if not packed:
                continue
            _check_padding(zeros)
            stream, zeros = lzma.LZMADecompressor(lzma.FORMAT_XZ), 0
        yield stream.decompress(packed, UNPACKED_BYTES)
        while not (stream.eof or stream.needs_input):
            yield stream.decompress(b"", UNPACKED_BYTES)
        packed = stream.unused_data
    if not stream.eof:
        raise EOFError("the compressed file is cut short")
    _check_padding(zeros)


def _check_padding(zeros: int) -> None:
    if zeros % 4:
        raise lzma.LZMAError("the zero bytes after a stream are no multiple of four")


def text_blocks(path: Path, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """Decode a file block by block; memory stays bounded whatever the length of its lines.

    Every kind of line end becomes a newline.
    Raises UserError naming the file and the byte where it is binary or not in `encoding`.
    """
    decoder = io.IncrementalNewlineDecoder(decoder_of(encoding), translate=True)
    single = _unit_bytes(encoding) == 1
    position = 0
    try:
        with open_binary(path) as file:
            while block := file.read(block_bytes):
                if single and b"\0" in block:
                    raise UserError(_binary(path, position + block.index(b"\0"), block))
                yield _decode(decoder, block, path, encoding, position)
                position += len(block)
        yield _decode(decoder, b"", path, encoding, position)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(_unreadable(path, error)) from error


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
        text = decoder.decode(block, final=not block)
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
    if "\0" in text:
        byte = position - len(pending) + _zero_unit(pending + block, _unit_bytes(encoding))
        raise UserError(
            f"{path}: expected text, found a character of number zero at byte {byte}: this is a "
            f"binary file, or its encoding is not data.encoding={encoding}"
        )
    return text


def _unit_bytes(encoding: str) -> int:
    """In units of how many bytes the encoding writes."""
    return UNIT_BYTES.get(codecs.lookup(encoding).name[: len("utf-16")], 1)


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


def _zero_unit(content: bytes, width: int) -> int:
    """Where the first unit of so many bytes that is zero begins."""
    place = content.index(bytes(width))
    while place % width:
        place = content.index(bytes(width), place + 1)
    return place


def _unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be opened or unpacked."""
    message = f"{path}: cannot be read: {error}"
    if isinstance(error, EOFError):
        return f"{message}. Get it whole"
    if isinstance(error, OSError) and error.errno is not None:
        return message
    return f"{message}. It is damaged, or not packed as its name says: {PACKINGS}"


def _binary(path: Path, byte: int, block: bytes) -> str:
    is_wide = block[:2] in (b"\xff\xfe", b"\xfe\xff")
    hint = "a UTF-16 file: set data.encoding=utf-16" if is_wide else PACKINGS
    return (
        f"{path}: expected text, found a zero byte at byte {byte}: this is a binary file ({hint})"
    )
