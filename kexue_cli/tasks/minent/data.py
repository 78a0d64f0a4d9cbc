"""The corpus: files decoded block by block and handed out in chunks, and the gold beside it.

Reading is the same for a tweet and for 10 GB in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent import alphabet
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.reading import find_files, places, text_blocks
from kexue_cli.tasks.minent.splitting import (
    CHUNK_CHARACTERS,
    Chunk,
    Splitting,
    chunks_of,
    code_points_of,
    concatenate,
    split_at,
)

SAMPLE_BLOCKS = 8  # read to find out the script of the text


@dataclass(frozen=True)
class Source:
    """Where text comes from: files, or the embedded English text when `files` is empty."""

    files: tuple[Path, ...]
    encoding: str = "utf-8"

    def blocks(self, max_lines: int | None = None) -> Iterator[str]:
        """Decoded text; every file ends with a newline, at most `max_lines` lines in all."""
        left = max_lines
        for block in self._blocks():
            if left is None:
                yield block
                continue
            lines = block.split("\n", left)
            if len(lines) > left:
                yield "".join(line + "\n" for line in lines[:left])
                return
            left -= len(lines) - 1
            yield block

    def _blocks(self) -> Iterator[str]:
        if not self.files:
            yield python_documentation()
        for file in self.files:
            last = "\n"
            for block in text_blocks(file, self.encoding):
                last = block[-1:] or last
                yield block
            if last != "\n":
                yield "\n"


def python_documentation() -> str:
    """English prose that Python ships: the language reference behind `help("topics")`.

    One clause a line, lower-case words of a-z separated by one space; code examples are dropped.
    """
    from pydoc_data.topics import topics

    clauses = []
    for name in sorted(topics):
        paragraphs = re.split(r"\n[ \t]*\n", topics[name])
        prose = [p for p in paragraphs if not re.match(r"( {3,}|\*\*|==|--|[+|])", p)]
        for clause in re.split(r"[.!?;:](?=\s|$)", "\n\n".join(prose)):
            words = re.findall(r"(?<![\w.\"'*(\[_])[A-Za-z]+(?:'[a-z]+)?(?![\w(\[=_*])", clause)
            if len(words) > 2:
                clauses.append(" ".join(words).replace("'", "").lower())
    return "\n".join(clauses) + "\n"


@dataclass(frozen=True)
class Corpus:
    """A source with its splitting resolved; iterate `chunks()` as often as needed."""

    source: Source
    splitting: Splitting
    max_lines: int | None = None

    def chunks(self, chunk_characters: int = CHUNK_CHARACTERS) -> Iterator[Chunk]:
        """The corpus in chunks of about `chunk_characters` characters."""
        return chunks_of(self.source.blocks(self.max_lines), self.splitting, chunk_characters)

    def read_all(self, max_characters: int | None) -> Chunk | None:
        """The whole corpus as one chunk, or None where it is longer than `max_characters`."""
        kept, characters = [], 0
        for chunk in self.chunks():
            kept.append(chunk)
            characters += len(chunk.code_points)
            if max_characters is not None and characters > max_characters:
                return None
        return concatenate(kept)

    def read(self, max_characters: int | None = None, key: str = "data.path") -> Chunk:
        """The corpus (or about its first `max_characters`) as one chunk.

        Raises UserError where it is empty; `key` is the setting that names its files.
        """
        kept, characters = [], 0
        size = CHUNK_CHARACTERS
        if max_characters is not None:  # small chunks, for not much more than is wanted
            size = min(size, max(max_characters // 16, 1))
        for chunk in self.chunks(size):
            kept.append(chunk)
            characters += len(chunk.code_points)
            if max_characters is not None and characters >= max_characters:
                break
        if not characters:
            names = ", ".join(str(f) for f in self.source.files[:3])
            raise UserError(
                f"{names}: expected text, found no visible character; give another {key}"
            )
        return concatenate(kept)


def nothing_to_search(corpus: Corpus) -> UserError:
    """The error for a text whose alphabet setting leaves no character to search words in."""
    wider = {"han": "letters or any", "letters": "any"}.get(corpus.splitting.alphabet.name)
    advice = (
        f"set data.alphabet to {wider}" if wider else "leave data.keep_latin and keep_digits out"
    )
    return UserError(
        "the text has no character in which words are searched "
        f"({corpus.splitting.describe()}); {advice}, or give another data.path"
    )


def open_corpus(data: object, max_lines: int | None = None, han_numbers: str = "digits") -> Corpus:
    """The corpus of a data configuration (`TextData`); reads the first block to resolve `auto`.

    `han_numbers` is what data.numbers is where nothing is said of digits and the alphabet is han.

    Raises ConfigError for a missing path or a wrong encoding name, UserError for a bad file.
    """
    path = getattr(data, "path", None)
    built_in = getattr(data, "name", "") == "pydoc"
    if not built_in and not path:
        raise ConfigError(
            "data.path",
            "expected a file, a folder, a glob or a list of them; for example data.path=book.txt",
        )
    source = Source(() if built_in else files_of(path), str(getattr(data, "encoding", "utf-8")))
    spaces = str(getattr(data, "spaces", "cut"))
    sample = "".join(islice(source.blocks(), SAMPLE_BLOCKS))
    name = alphabet.choose(
        str(getattr(data, "alphabet", "auto")),
        alphabet.class_table()[code_points_of(sample)],
        otherwise="any" if spaces == "gold" else "letters",
    )
    keep_digits = getattr(data, "keep_digits", None)
    chosen = Alphabet.named(name, getattr(data, "keep_latin", None), keep_digits)
    if name != "han" or keep_digits is not None:
        han_numbers = "digits"
    splitting = Splitting(
        chosen,
        spaces,
        bool(getattr(data, "sentence_ends", True)),
        str(getattr(data, "separators", "")),
        getattr(data, "numbers", None) or han_numbers,
    )
    return Corpus(source, splitting, max_lines)


def files_of(path: Any) -> tuple[Path, ...]:
    """The files of `data.path`: one path, folder or glob, or a list of them."""
    return tuple(file for place in places(path) for file in find_files(place))


def gold_files(data: object) -> tuple[Path, ...]:
    """The files of `data.gold`."""
    return tuple(find_files(str(getattr(data, "gold", "")), "data.gold"))


def read_gold(data: object, corpus: Corpus) -> NDArray[np.bool_]:
    """Word ends (characters of the corpus,) from the segmented file `data.gold`.

    Raises UserError with line and column where its characters are not those of the text.
    """
    path = str(getattr(data, "gold", ""))
    splitting = replace(corpus.splitting, spaces="gold")
    source = Source(gold_files(data), corpus.source.encoding)
    text = corpus.read()
    wanted = None if corpus.max_lines is None else len(text.code_points)  # its lines may differ
    gold = Corpus(source, splitting).read(wanted, key="data.gold")
    if wanted is not None and len(gold.code_points) > wanted:
        gold = split_at(gold, wanted)[0]
    size = min(len(gold.code_points), len(text.code_points))
    different = np.flatnonzero(gold.code_points[:size] != text.code_points[:size])
    if not len(different) and len(gold.code_points) == len(text.code_points):
        assert gold.gold is not None
        return gold.gold
    place = int(different[0]) if len(different) else size
    line, column = _line_and_column(gold, place)
    found, expected = (_character(c.code_points, place) for c in (gold, text))
    raise UserError(
        f"{path}: line {line}, character {column} (spaces not counted): expected {expected} as in "
        f"the text, found {found}; the gold must be the same text with spaces added"
    )


def _line_and_column(chunk: Chunk, place: int) -> tuple[int, int]:
    """Line and visible character in it, from 1, of a place in the text."""
    line = int(np.searchsorted(chunk.line_ends, place, side="right"))
    return line + 1, place - (int(chunk.line_ends[line - 1]) if line else 0) + 1


def _character(code_points: NDArray[np.uint32], place: int) -> str:
    return repr(chr(code_points[place])) if place < len(code_points) else "the end of the file"
