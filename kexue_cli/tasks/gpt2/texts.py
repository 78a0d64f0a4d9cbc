"""The texts of a corpus, document by document, as files hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kexue_cli.errors import ConfigError, UserError

PIECE_CHARACTERS = 1 << 22  # texts are read and encoded in pieces of about this size
UTF8 = "utf-8-sig"  # without the mark that some editors put before a text


@dataclass(frozen=True)
class Piece:
    """Some text of one document; `starts` says that a document begins here."""

    text: str
    starts: bool
    split: str


@dataclass(frozen=True)
class TextSource:
    """Files of text and how they are divided.

    A text file is one document whose last `valid_fraction` of characters is for validation; of a
    jsonl file each line that is not blank is a document, and the last `valid_fraction` of these is.
    """

    paths: tuple[Path, ...]
    text_key: str = "text"
    valid_fraction: float = 0.1

    @property
    def name(self) -> str:
        """The file, or the first and how many more."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"

    def signature(self) -> str:
        """Hash of names, sizes and times: packed tokens are used again while it is the same."""
        digest = hashlib.sha256(f"{self.text_key} {self.valid_fraction}".encode())
        for path in self.paths:
            stat = path.stat()
            digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        """All documents in order, in pieces; training text of a document before its validation.

        Raises:
            UserError: a file that is not UTF-8, or a line that is no JSON object with the text, or
                with text that UTF-8 cannot hold.
        """
        for path in self.paths:
            yield from self._jsonl(path) if path.suffix == ".jsonl" else self._plain(path)

    def texts(self) -> Iterator[str]:
        """The text of all pieces."""
        return (piece.text for piece in self.pieces())

    def document_count(self) -> int:
        """Documents in all files."""
        return sum(_line_count(p) if p.suffix == ".jsonl" else 1 for p in self.paths)

    def _plain(self, path: Path) -> Iterator[Piece]:
        cut = int(self._characters(path) * (1 - self.valid_fraction))
        done, starts = 0, {"train": True, "valid": True}
        with path.open(encoding=UTF8, newline="") as file:
            while text := _read(file, path):
                head = max(0, min(len(text), cut - done))
                for split, part in (("train", text[:head]), ("valid", text[head:])):
                    if part:
                        yield Piece(part, starts[split], split)
                        starts[split] = False
                done += len(text)

    def _characters(self, path: Path) -> int:
        total = 0
        with path.open(encoding=UTF8, newline="") as file:
            while text := _read(file, path):
                total += len(text)
        return total

    def _jsonl(self, path: Path) -> Iterator[Piece]:
        cut = int(_line_count(path) * (1 - self.valid_fraction))
        with path.open("rb") as file:
            lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
            for document, (number, line) in enumerate(lines):
                text = self._text_of(line, path, number)
                yield Piece(text, True, "train" if document < cut else "valid")

    def _text_of(self, line: bytes, path: Path, number: int) -> str:
        try:
            text = json.loads(line)[self.text_key]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: expected a JSON object with {self.text_key!r} "
                f"({type(error).__name__}: {error}). Name another key with data.text_key=…"
            ) from error
        if not isinstance(text, str):
            raise UserError(f"{path}, line {number}: {self.text_key!r} is not a string")
        _refuse_half_characters(text, path, number)
        return text


def find_files(path: str, pattern: str) -> tuple[Path, ...]:
    """A file, or the files of a folder (and its sub-folders) that match, sorted.

    Raises:
        ConfigError: nothing is there.
    """
    place = Path(path)
    if place.is_file():
        return (place,)
    if not place.is_dir():
        raise ConfigError(
            "data.path", f"{place} does not exist. Give a text file, a .jsonl or a folder of them"
        )
    found = tuple(sorted(p for p in place.rglob(pattern) if p.is_file()))
    if not found:
        raise ConfigError("data.path", f"no file in {place} matches data.pattern={pattern!r}")
    return found


def _refuse_half_characters(text: str, path: Path, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start]).strip("'")
        raise UserError(
            f"{path}, line {number}: {half}, character {error.start + 1} of the text, is half of a "
            "surrogate pair and no character. Take it out, or write the whole pair"
        ) from error


def _line_count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _read(file: IO[str], path: Path) -> str:
    """About PIECE_CHARACTERS more, up to the end of a line."""
    try:
        text = file.read(PIECE_CHARACTERS)
        return text + file.readline() if text else ""
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error}). Convert it first, for example with iconv"
        ) from error
