"""Text files as blocks of decoded text: globs, folders, compression, encodings, error places."""

from __future__ import annotations

import codecs
import glob
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.extras import require

BLOCK_BYTES = 1 << 22
GUESSES = ("utf-8", "gb18030", "big5", "utf-16")


def find_files(path: str, key: str = "data.path") -> list[Path]:
    """Files named by a path, a folder (all its files, recursively, hidden ones excepted) or a glob.

    Raises ConfigError where nothing is found.
    """
    given = Path(path).expanduser()
    if given.is_file():
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


def open_binary(path: Path) -> BinaryIO:
    """Open a plain, .gz, .xz or .zst file for reading bytes."""
    match path.suffix:
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        case ".zst":
            return cast(BinaryIO, require("zstandard", extra="minent").open(path, "rb"))
        case _:
            return path.open("rb")


def text_blocks(path: Path, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """Decode a file block by block; memory stays bounded whatever the length of its lines.

    Raises UserError naming the file and the byte where it is binary or not in `encoding`.
    """
    try:
        decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()
    except LookupError:
        raise ConfigError(
            "data.encoding", f"unknown encoding {encoding!r}; for example utf-8, gb18030"
        ) from None
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    position = 0
    try:
        with open_binary(path) as file:
            while block := file.read(block_bytes):
                if not wide and b"\0" in block:
                    raise UserError(_binary(path, position + block.index(b"\0"), block))
                yield _decode(decoder, block, path, encoding, position)
                position += len(block)
        yield _decode(decoder, b"", path, encoding, position)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _decode(
    decoder: codecs.IncrementalDecoder, block: bytes, path: Path, encoding: str, position: int
) -> str:
    """Decode one block; `position` is its byte offset in the (unpacked) file."""
    pending = decoder.getstate()[0]
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        byte = position - len(pending) + error.start
        found = error.object[error.start : error.start + 4].hex(" ")
        raise UserError(
            f"{path}: byte {byte} is not {encoding}: found {found} ({error.reason}). "
            f"{_advice(pending + block, encoding)}"
        ) from None


def _advice(sample: bytes, encoding: str) -> str:
    """Name an encoding which does decode the block, cut to whole characters."""
    for guess in GUESSES:
        if guess == encoding:
            continue
        decoder = codecs.getincrementaldecoder(guess)()
        try:
            decoder.decode(sample[: len(sample) // 2 * 2])
        except UnicodeError:
            continue
        return f"The block does decode as {guess}: try data.encoding={guess}"
    return "Set data.encoding to the file's encoding, or mend the file"


def _binary(path: Path, byte: int, block: bytes) -> str:
    hint = (
        " (a UTF-16 file: set data.encoding=utf-16)"
        if block[:2] in (b"\xff\xfe", b"\xfe\xff")
        else ""
    )
    return f"{path}: expected text, found a zero byte at byte {byte}: this is a binary file{hint}"
