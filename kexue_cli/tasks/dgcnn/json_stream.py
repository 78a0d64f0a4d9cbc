"""Large JSON files item by item: arrays, objects, JSON lines; memory for one item at a time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kexue_cli.errors import UserError

CHUNK = 1 << 20  # characters
# Errors of the decoder whose position is where the string began, not where the text ended.
MAY_GO_ON = ("Unterminated string", "Invalid \\escape", "Invalid \\uXXXX")


@dataclass(frozen=True)
class Item:
    """A value of the file, the line on which it begins, its key in an object."""

    value: Any
    line: int
    key: str | None = None


def items(path: Path) -> Iterator[Item]:
    """Items of a file: of an array, also of one under the key `data`; of an object; or its lines.

    Raises:
        UserError: the file cannot be read, is not UTF-8 or not JSON; it names the line.
    """
    with opened(path) as file:
        stream = Stream(path, file)
        first = stream.peek()
        if first == "[":
            yield from stream.array()
            stream.end()
        elif first == "{" and stream.first_line_is_whole():
            yield from stream.values()
        elif first == "{":
            yield from stream.object()
            stream.end()
        else:
            stream.fail(f"expected [ or {{ at the beginning of JSON, found {first!r}")


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as text, errors of reading it in plain words."""
    try:
        open_file = gzip.open if path.suffix == ".gz" else open
        with open_file(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        line = line_not_utf8(path)
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    except (OSError, EOFError) as error:  # also what gzip finds wrong
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); expected a file") from error


def line_not_utf8(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


class Stream:
    """A window that moves over the text of a JSON file."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file = path, file
        self.text, self.at, self.lines_before, self.ended = "", 0, 0, False
        self.decoder = json.JSONDecoder()

    @property
    def line(self) -> int:
        """The line that is being read."""
        return self.line_at(self.at)

    def line_at(self, at: int) -> int:
        """The line of a place in the window."""
        return 1 + self.lines_before + self.text.count("\n", 0, at)

    def fail(self, message: str, at: int | None = None) -> None:
        """Raise a UserError for this place."""
        line = self.line if at is None else self.line_at(at)
        raise UserError(f"{self.path}, line {line}: not JSON: {message}; mend the file there")

    def more(self) -> bool:
        """Let the window begin here and reach further; whether there was more."""
        self.lines_before += self.text.count("\n", 0, self.at)
        rest = self.text[self.at :]
        added = self.file.read(max(CHUNK, len(rest)))
        self.text, self.at, self.ended = rest + added, 0, not added
        return bool(added)

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def take(self, wanted: str) -> str:
        """Step over the next character, which must be one of `wanted`."""
        found = self.peek()
        if not found or found not in wanted:
            what = repr(found) if found else "the end of the file"
            self.fail(f"expected {' or '.join(wanted)}, found {what}")
        self.at += 1
        return found

    def end(self) -> None:
        """Refuse what follows."""
        if found := self.peek():
            self.fail(f"expected the end of the file, found {found!r}")

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                ahead = error.pos - self.at  # stays right when the window moves
                cut_off = error.pos >= len(self.text) - 16 or error.msg.startswith(MAY_GO_ON)
                if not (cut_off and self.more()):
                    self.fail(error.msg, self.at + ahead)
            except (RecursionError, ValueError) as error:  # too deep, or a number too long
                self.fail(str(error))
            else:
                # A number at the very end of the window may have further digits.
                if end < len(self.text) or not self.more():
                    self.at = end
                    return value

    def array(self) -> Iterator[Item]:
        """The values of an array."""
        self.take("[")
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.peek()
            line = self.line
            yield Item(self.value(), line)
            if self.take(",]") == "]":
                return

    def object(self) -> Iterator[Item]:
        """The values of the array under `data`, or all values with their keys."""
        self.take("{")
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            self.peek()
            line, key = self.line, self.value()
            self.take(":")
            if key == "data" and self.peek() == "[":
                yield from self.array()
            else:
                yield Item(self.value(), line, key)
            if self.take(",}") == "}":
                return

    def values(self) -> Iterator[Item]:
        """Values one after the other, as in JSON lines."""
        while self.peek():
            line = self.line
            yield Item(self.value(), line)

    def first_line_is_whole(self) -> bool:
        """Whether the first line is a value by itself, which holds no array under `data`."""
        end = self.text.find("\n", self.at)
        line = self.text[self.at :] if end < 0 else self.text[self.at : end]
        if end < 0 and len(self.text) >= CHUNK:
            return False
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return False
        is_table = isinstance(value.get("data"), list) or all(
            isinstance(part, dict) for part in value.values()
        )
        return not is_table
