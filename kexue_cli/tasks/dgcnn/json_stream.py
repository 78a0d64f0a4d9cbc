"""Large JSON files item by item: arrays, objects, JSON lines; memory for one item at a time."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.text_files import with_each_key_once
from kexue_cli.tasks.dgcnn.words import UNPAIRED

CHUNK = 1 << 20  # characters
# Errors of the decoder whose position is where the string began, not where the text ended.
MAY_GO_ON = ("Unterminated string", "Invalid \\escape", "Invalid \\uXXXX")
# An object with one of these is a question or an article, not a table of questions by key.
FIELDS = frozenset(
    ("question", "query", "question_tokens", "passages", "evidences", "paragraphs", "qas")
)
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON escapes it


@dataclass(frozen=True)
class Item:
    """A value of the file, the line on which it begins, its key in an object."""

    value: Any
    line: int
    key: str | None = None


def items(path: Path) -> Iterator[Item]:
    """Items of a file: of an array, also of one under the key `data`; of an object; or its lines.

    Surrogates without their other half are U+FFFD, since UTF-8 cannot hold them.

    Raises:
        UserError: the file cannot be read, is not UTF-8 or not JSON, or an object has a key twice;
            it names the line.
    """
    with opened(path) as file:
        stream = Stream(path, file)
        first = stream.peek()
        if first == "[":
            yield from stream.array()
            stream.end()
        elif first == "{":
            yield from stream.objects()
        else:
            stream.fail(f"expected [ or {{ at the beginning of JSON, found {first!r}")


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as text, errors of reading it in plain words."""
    try:
        try:
            open_file = gzip.open if path.suffix == ".gz" else open
            with open_file(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError as error:
            line = line_not_utf8(path)  # may find the file damaged, too
            raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:  # also what gzip finds wrong
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
        self.text, self.at, self.ended = "", 0, False
        self.lines_before, self.characters_before = 0, 0
        self.decoder = json.JSONDecoder(object_pairs_hook=with_each_key_once)

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
        self.characters_before += self.at
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
                if SURROGATE.search(self.text, self.at, end):
                    value = mended(value)
            except json.JSONDecodeError as error:
                ahead = error.pos - self.at  # stays right when the window moves
                cut_off = error.pos >= len(self.text) - 16 or error.msg.startswith(MAY_GO_ON)
                if not (cut_off and self.more()):
                    self.fail(error.msg, self.at + ahead)
            except (RecursionError, ValueError) as error:
                # Nested too deep, a number too long, or a key twice in an object.
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

    def objects(self) -> Iterator[Item]:
        """What begins with an object: a table, or values one after the other, as in JSON lines.

        A table has an array under `data`, or an object for each key. Which it is shows late where
        other values come first; they are held till then.
        """
        line, begin = self.line, self.characters_before + self.at
        held: list[Item] = []
        table, has_data = False, False
        for item in self.members():
            if item.value is IN_ARRAY:
                table = has_data = True
                yield from (other for other in held if not is_aside(other))
                held = []
                yield from self.array()
            elif not (has_data and is_aside(item)):
                held.append(item)
            is_long = self.characters_before + self.at - begin > CHUNK
            table = table or (is_long and is_table(held))
            if table:
                yield from held
                held = []
        if table or is_table(held):
            yield from held
            self.end()
            return
        try:
            value = with_each_key_once([(str(item.key), item.value) for item in held])
        except ValueError as error:
            raise UserError(f"{self.path}, line {line}: {error}; mend the file there") from error
        yield Item(value, line)
        yield from self.values()

    def members(self) -> Iterator[Item]:
        """The members of an object; of an array under `data` only that it begins."""
        self.take("{")
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                self.take('"')  # refuses it
            line, key = self.line, self.value()
            self.take(":")
            is_data = key == "data" and self.peek() == "["
            yield Item(IN_ARRAY if is_data else self.value(), line, key)
            if self.take(",}") == "}":
                return

    def values(self) -> Iterator[Item]:
        """Values one after the other, as in JSON lines."""
        while self.peek():
            line = self.line
            yield Item(self.value(), line)


IN_ARRAY = object()  # the value of a member that its reader takes item by item


def is_table(members: list[Item]) -> bool:
    """Whether these are, as far as they go, objects by key, other values beside them or not."""
    with_objects = [isinstance(item.value, dict) for item in members]
    return all(with_objects) or (any(with_objects) and not FIELDS & {i.key for i in members})


def is_aside(item: Item) -> bool:
    """Whether a member beside `data` is about the file, and holds no question."""
    return isinstance(item.value, dict) and not FIELDS & item.value.keys()


def mended(value: Any) -> Any:
    """The value with U+FFFD for each surrogate without its other half; lengths stay."""
    if isinstance(value, str):
        return UNPAIRED.sub("\ufffd", value)
    if isinstance(value, list):
        return [mended(part) for part in value]
    if isinstance(value, dict):
        return with_each_key_once([(mended(key), mended(part)) for key, part in value.items()])
    return value
