"""The corpus as a stream of chunks: code points, the pieces to segment, line ends, gold word ends.

Reading is the same for a tweet and for 10 GB in one line: files are decoded block by block, and a
piece longer than a chunk goes on in the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent import alphabet
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.reading import find_files, text_blocks

CHUNK_CHARACTERS = 1 << 22
SAMPLE_BLOCKS = 8  # read to find out the script of the text


@dataclass(frozen=True)
class Chunk:
    """A stretch of the corpus without its whitespace.

    code_points  (characters,) uint32
    starts       (pieces + 1,) int64: piece i is code_points[starts[i]:starts[i + 1]]
    free         (pieces,) bool: words are searched in these; the others are one token each
    line_ends    (newlines,) int64: number of characters before each newline (repeats: blank lines)
    gold         (characters,) bool or None: a gold word ends after this character
    continues    the first piece goes on where the previous chunk's last piece stopped
    """

    code_points: NDArray[np.uint32]
    starts: NDArray[np.int64]
    free: NDArray[np.bool_]
    line_ends: NDArray[np.int64]
    gold: NDArray[np.bool_] | None = None
    continues: bool = False

    def segmentable(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Only the free pieces: their characters in one array and their starts (pieces + 1)."""
        lengths = np.diff(self.starts)
        characters = self.code_points[np.repeat(self.free, lengths)]
        starts = np.concatenate(([0], np.cumsum(lengths[self.free])))
        return characters, starts


def concatenate(chunks: list[Chunk]) -> Chunk:
    """One chunk of many; a piece that went over a chunk border is whole again."""
    if len(chunks) == 1:
        return chunks[0]
    offsets = np.concatenate(([0], np.cumsum([len(c.code_points) for c in chunks]))).astype(
        np.int64
    )
    joined = [int(c.continues and i > 0) for i, c in enumerate(chunks)]
    starts = [c.starts[j:-1] + o for c, o, j in zip(chunks, offsets, joined, strict=False)]
    gold = [c.gold for c in chunks if c.gold is not None]
    return Chunk(
        np.concatenate([c.code_points for c in chunks]),
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate([c.free[j:] for c, j in zip(chunks, joined, strict=True)]),
        np.concatenate([c.line_ends + o for c, o in zip(chunks, offsets, strict=False)]),
        np.concatenate(gold) if gold else None,
    )


@dataclass(frozen=True)
class Splitting:
    """How raw text becomes pieces: stated beside every score.

    spaces         `cut`: a word never goes over whitespace; `strip`: whitespace is deleted;
                   `gold`: deleted, and remembered as the gold word ends
    sentence_ends  a word never goes over a line end
    separators     characters that count as whitespace besides it (as `/` in some gold files)
    """

    alphabet: Alphabet
    spaces: str = "cut"
    sentence_ends: bool = True
    separators: str = ""

    def describe(self) -> str:
        """One line for logs and reports."""
        names = ("space", "other", "Han", "Latin", "digits", "letters")
        whole = "+".join(names[k] for k in sorted(self.alphabet.whole)) or "none"
        ends = "known" if self.sentence_ends else "unknown"
        alphabet_name = f"alphabet {self.alphabet.name}, runs kept whole: {whole}"
        return f"{alphabet_name}, spaces: {self.spaces}, line ends {ends}"

    def split(self, raw: NDArray[np.uint32], continues: bool) -> Chunk:
        """Cut raw code points (characters,) with whitespace into a chunk."""
        classes = alphabet.class_table()[raw]
        if self.separators:
            classes[np.isin(raw, [ord(c) for c in self.separators])] = alphabet.SPACE
        visible = classes != alphabet.SPACE
        position = np.cumsum(visible)  # characters up to and with this one
        newline = raw == alphabet.NEWLINE
        characters = raw[visible]
        groups = self.alphabet.groups(classes[visible])
        after_line = np.diff(np.cumsum(newline)[visible]) > 0  # (characters - 1,)
        after_space = np.diff(np.flatnonzero(visible)) > 1
        new_piece = (groups[1:] != groups[:-1]) | (groups[1:] == 0)
        if self.sentence_ends:
            new_piece |= after_line
        if self.spaces == "cut":
            new_piece |= after_space
        begins = np.concatenate(([True][: len(characters)], new_piece))
        starts = np.append(np.flatnonzero(begins), len(characters)).astype(np.int64)
        gold = None
        if self.spaces == "gold":
            gold = np.append(after_space, [not visible[-1]] if len(characters) else [])
        free = groups[starts[:-1]] == 2
        return Chunk(characters, starts, free, position[newline].astype(np.int64), gold, continues)


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(
        text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-32-le", "surrogatepass"), "<u4"
    )


def chunks_of(
    blocks: Iterator[str], splitting: Splitting, chunk_characters: int = CHUNK_CHARACTERS
) -> Iterator[Chunk]:
    """Split a stream of text into chunks of about `chunk_characters`.

    The last, perhaps unfinished piece of a block waits for the next one; a piece longer than a
    chunk is handed out in parts, the later ones marked `continues`.
    """
    held = np.empty(0, np.uint32)
    continues = False
    pieces = (
        b[i : i + chunk_characters] for b in blocks for i in range(0, len(b), chunk_characters)
    )
    for block in pieces:
        held = np.concatenate((held, _code_points(block)))
        if len(held) < chunk_characters:
            continue
        chunk, held, goes_on = _all_but_last_piece(held, splitting, continues)
        if len(chunk.code_points):
            yield chunk
            continues = goes_on
    last = splitting.split(held, continues)
    if len(last.code_points) or len(last.line_ends):
        yield last


def _all_but_last_piece(
    raw: NDArray[np.uint32], splitting: Splitting, continues: bool
) -> tuple[Chunk, NDArray[np.uint32], bool]:
    """The finished part of `raw`, the rest, and whether the rest goes on inside a piece."""
    visible = alphabet.class_table()[raw] != alphabet.SPACE
    if splitting.separators:
        visible &= ~np.isin(raw, [ord(c) for c in splitting.separators])
    places = np.flatnonzero(visible)
    whole = splitting.split(raw, continues)
    if len(places) < 2:
        return splitting.split(raw[:0], continues), raw, continues
    last_start = int(whole.starts[-2])
    inside = last_start == 0 or len(places) - last_start > len(places) // 2
    end = places[-1] if inside else places[last_start]
    return splitting.split(raw[:end], continues), raw[end:], inside


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

    def read(self, max_characters: int | None = None) -> Chunk:
        """The corpus (or about its first `max_characters`) as one chunk.

        Raises UserError where it is empty.
        """
        kept, characters = [], 0
        for chunk in self.chunks(min(CHUNK_CHARACTERS, max_characters or CHUNK_CHARACTERS)):
            kept.append(chunk)
            characters += len(chunk.code_points)
            if max_characters is not None and characters >= max_characters:
                break
        if not characters:
            names = ", ".join(str(f) for f in self.source.files[:3])
            raise UserError(
                f"{names}: expected text, found no visible character; give another data.path"
            )
        return concatenate(kept)


def open_corpus(data: object, max_lines: int | None = None) -> Corpus:
    """The corpus of a data configuration (`TextData`); reads the first block to resolve `auto`.

    Raises ConfigError for a missing path or a wrong encoding name, UserError for a bad file.
    """
    path = getattr(data, "path", None)
    built_in = getattr(data, "name", "") == "pydoc"
    if not built_in and not path:
        raise ConfigError(
            "data.path", "expected a file, a folder or a glob; for example data.path=book.txt"
        )
    source = Source(
        () if built_in else tuple(find_files(str(path))), str(getattr(data, "encoding", "utf-8"))
    )
    spaces = str(getattr(data, "spaces", "cut"))
    sample = "".join(islice(source.blocks(), SAMPLE_BLOCKS))
    name = alphabet.choose(
        str(getattr(data, "alphabet", "auto")),
        alphabet.class_table()[_code_points(sample)],
        otherwise="any" if spaces == "gold" else "letters",
    )
    chosen = Alphabet.named(
        name, getattr(data, "keep_latin", None), getattr(data, "keep_digits", None)
    )
    splitting = Splitting(
        chosen,
        spaces,
        bool(getattr(data, "sentence_ends", True)),
        str(getattr(data, "separators", "")),
    )
    return Corpus(source, splitting, max_lines)


def read_gold(data: object, corpus: Corpus) -> NDArray[np.bool_]:
    """Word ends (characters of the corpus,) from the segmented file `data.gold`.

    Raises UserError with line and column where its characters are not those of the text.
    """
    path = str(getattr(data, "gold", ""))
    splitting = replace(corpus.splitting, spaces="gold")
    source = Source(tuple(find_files(path, "data.gold")), corpus.source.encoding)
    gold = Corpus(source, splitting, corpus.max_lines).read()
    text = corpus.read()
    size = min(len(gold.code_points), len(text.code_points))
    different = np.flatnonzero(gold.code_points[:size] != text.code_points[:size])
    if not len(different) and len(gold.code_points) == len(text.code_points):
        assert gold.gold is not None
        return gold.gold
    place = int(different[0]) if len(different) else size
    line, column = _line_and_column(gold, place)
    found, wanted = (_character(c.code_points, place) for c in (gold, text))
    raise UserError(
        f"{path}: line {line}, character {column} (spaces not counted): expected {wanted} as in "
        f"the text, found {found}; the gold must be the same text with spaces added"
    )


def _line_and_column(chunk: Chunk, place: int) -> tuple[int, int]:
    """Line and visible character in it, from 1, of a place in the text."""
    line = int(np.searchsorted(chunk.line_ends, place, side="right"))
    return line + 1, place - (int(chunk.line_ends[line - 1]) if line else 0) + 1


def _character(code_points: NDArray[np.uint32], place: int) -> str:
    return repr(chr(code_points[place])) if place < len(code_points) else "the end of the file"
