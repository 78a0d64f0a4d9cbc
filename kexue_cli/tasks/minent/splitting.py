"""How a stream of text becomes chunks: code points, pieces to segment, line ends, gold word ends.

A piece longer than a chunk goes on in the next one, so that a text of one line is nothing special.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent import alphabet
from kexue_cli.tasks.minent.alphabet import ALONE, DIGIT, FREE, WHOLE, Alphabet

CHUNK_CHARACTERS = 1 << 22
ZERO = ord("0")  # stands for every number


@dataclass(frozen=True)
class Chunk:
    """A stretch of the corpus without its whitespace.

    code_points  (characters,) uint32
    starts       (pieces + 1,) int64: piece i is code_points[starts[i]:starts[i + 1]]
    free         (pieces,) bool: words are searched in these; the others are one token each
    line_ends    (newlines,) int64: number of characters before each newline (repeats: blank lines)
    gold         (characters,) bool or None: a gold word ends after this character
    numbers      (characters,) bool or None: part of a number, which is one letter, ZERO
    uncut        (characters,) bool or None: a number goes on after this character, or a mark or
                 joiner follows that goes with it; no word ends
    continues    the first piece goes on where the previous chunk's last piece stopped
    """

    code_points: NDArray[np.uint32]
    starts: NDArray[np.int64]
    free: NDArray[np.bool_]
    line_ends: NDArray[np.int64]
    gold: NDArray[np.bool_] | None = None
    numbers: NDArray[np.bool_] | None = None
    uncut: NDArray[np.bool_] | None = None
    continues: bool = False

    def inside(self) -> NDArray[np.bool_]:
        """Where letters of free pieces end, (characters,)."""
        return np.repeat(self.free, np.diff(self.starts)) & self.letter_ends()

    def letters(self) -> NDArray[np.uint32]:
        """The text (characters,) with ZERO in place of all that is in numbers."""
        if self.numbers is None:
            return self.code_points
        return np.where(self.numbers, np.uint32(ZERO), self.code_points)

    def letter_ends(self) -> NDArray[np.bool_]:
        """(characters,) false where a number goes on after the character."""
        if self.numbers is None:
            return np.ones(len(self.code_points), np.bool_)
        goes_on = self.numbers & np.append(self.numbers[1:], False)
        goes_on[self.starts[1:] - 1] = False
        return ~goes_on

    def segmentable(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Only the free pieces: their letters in one array and their starts (pieces + 1)."""
        inside = self.inside()
        before = np.concatenate(([0], np.cumsum(inside)))  # letters before each character
        starts = np.append(before[self.starts[:-1]][self.free], before[-1])
        return self.letters()[inside], starts


def concatenate(chunks: list[Chunk]) -> Chunk:
    """One chunk of many; a piece that went over a chunk border is whole again."""
    if len(chunks) == 1:
        return chunks[0]
    offsets = np.concatenate(([0], np.cumsum([len(c.code_points) for c in chunks]))).astype(
        np.int64
    )
    joined = [int(c.continues and i > 0) for i, c in enumerate(chunks)]
    starts = [c.starts[j:-1] + o for c, o, j in zip(chunks, offsets, joined, strict=False)]
    return Chunk(
        np.concatenate([c.code_points for c in chunks]),
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate([c.free[j:] for c, j in zip(chunks, joined, strict=True)]),
        np.concatenate([c.line_ends + o for c, o in zip(chunks, offsets, strict=False)]),
        _joined([c.gold for c in chunks], offsets),
        _joined([c.numbers for c in chunks], offsets),
        _joined([c.uncut for c in chunks], offsets),
    )


def _joined(
    parts: list[NDArray[np.bool_] | None], offsets: NDArray[np.int64]
) -> NDArray[np.bool_] | None:
    """One array of those that there are, false in chunks that have none; offsets (parts + 1,)."""
    if all(part is None for part in parts):
        return None
    whole = np.zeros(offsets[-1], np.bool_)
    for part, begin, end in zip(parts, offsets[:-1], offsets[1:], strict=True):
        if part is not None:
            whole[begin:end] = part
    return whole


def _part(values: NDArray[np.bool_] | None, part: slice) -> NDArray[np.bool_] | None:
    return None if values is None else values[part]


def split_at(chunk: Chunk, border: int) -> tuple[Chunk, Chunk]:
    """Two chunks, the second beginning at character `border` > 0 (perhaps inside a piece)."""
    piece = int(np.searchsorted(chunk.starts, border, side="right")) - 1
    inside = border > chunk.starts[piece]
    before, after = slice(border), slice(border, None)
    first = replace(
        chunk,
        code_points=chunk.code_points[:border],
        starts=np.append(chunk.starts[: piece + inside], border),
        free=chunk.free[: piece + inside],
        line_ends=chunk.line_ends[chunk.line_ends <= border],
        gold=_part(chunk.gold, before),
        numbers=_part(chunk.numbers, before),
        uncut=_part(chunk.uncut, before),
    )
    rest = replace(
        chunk,
        code_points=chunk.code_points[border:],
        starts=np.append(border, chunk.starts[piece + 1 :]) - border,
        free=chunk.free[piece:],
        line_ends=chunk.line_ends[chunk.line_ends > border] - border,
        gold=_part(chunk.gold, after),
        numbers=_part(chunk.numbers, after),
        uncut=_part(chunk.uncut, after),
        continues=False,
    )
    return first, rest


@dataclass(frozen=True)
class Splitting:
    """How raw text becomes pieces: stated beside every score.

    spaces         `cut`: a word never goes over whitespace; `strip`: whitespace is deleted;
                   `gold`: deleted, and remembered as the gold word ends
    sentence_ends  a word never goes over a line end
    separators     characters that count as whitespace besides it (as `/` in some gold files)
    numbers        `digits`: a run of digits is one token or not as the alphabet says; `whole`: a
                   number (2008, 3.5%) is one token, and none of two Han numerals or more (二十三)
                   is cut; `join`: besides, the former is one letter and may be part of a word
    """

    alphabet: Alphabet
    spaces: str = "cut"
    sentence_ends: bool = True
    separators: str = ""
    numbers: str = "digits"

    def describe(self) -> str:
        """One line for logs and reports."""
        ends = "known" if self.sentence_ends else "unknown"
        cut = "" if self.numbers == "digits" else ", no number is cut"
        return f"{self.letters()}{cut}, spaces: {self.spaces}, line ends {ends}"

    def letters(self) -> str:
        """Which characters make up words, in words: what a lexicon and a text must agree on."""
        names = ("space", "other", "Han", "Latin", "digits", "letters")
        join = self.numbers == "join"
        kinds = self.alphabet.whole - {DIGIT} if join else self.alphabet.whole
        whole = "+".join(names[k] for k in sorted(kinds)) or "none"
        numbers = ", a number is one letter" if join else ""
        return f"alphabet {self.alphabet.name}, runs kept whole: {whole}{numbers}"

    def classes(self, raw: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Class of each of the raw code points (characters,); separators are whitespace."""
        classes = alphabet.class_table()[raw]
        if self.separators:
            classes[np.isin(raw, [ord(c) for c in self.separators])] = alphabet.SPACE
        return classes

    def split(self, raw: NDArray[np.uint32], continues: bool) -> Chunk:
        """Cut raw code points (characters,) with whitespace into a chunk."""
        classes = self.classes(raw)
        visible = classes != alphabet.SPACE
        position = np.cumsum(visible)  # characters up to and with this one
        newline = raw == alphabet.NEWLINE
        characters, classes = raw[visible], classes[visible]
        after_line = np.diff(np.cumsum(newline)[visible]) > 0  # (characters - 1,)
        after_space = np.diff(np.flatnonzero(visible)) > 1
        apart = after_space if self.spaces == "cut" else np.zeros_like(after_space)
        if self.sentence_ends:
            apart = apart | after_line
        attached = alphabet.attached(characters, apart)
        if attached is not None:
            base = np.maximum.accumulate(np.where(attached, 0, np.arange(len(attached))))
            classes = classes[base]
        groups = self.alphabet.groups(classes)
        numbers = uncut = None
        if self.numbers != "digits":
            numbers = alphabet.in_numbers(characters, classes, apart)
            groups[numbers] = FREE if self.numbers == "join" else WHOLE
            uncut = alphabet.han_number_goes_on(characters, apart)
            groups[uncut | np.append([False], uncut)[:-1]] = FREE
        new_piece = apart | (groups[1:] != groups[:-1]) | (groups[1:] == ALONE)
        if attached is not None:
            new_piece &= ~attached[1:]
            goes_on = np.append(attached[1:], False)
            uncut = goes_on if uncut is None else uncut | goes_on
        begins = np.concatenate(([True][: len(characters)], new_piece))
        starts = np.append(np.flatnonzero(begins), len(characters)).astype(np.int64)
        gold = None
        if self.spaces == "gold":
            gold = np.append(after_space, [not visible[-1]] if len(characters) else [])
        free = groups[starts[:-1]] == FREE
        line_ends = position[newline].astype(np.int64)
        letters = numbers if self.numbers == "join" else None
        return Chunk(characters, starts, free, line_ends, gold, letters, uncut, continues)


def code_points_of(text: str) -> NDArray[np.uint32]:
    """The code points of a text (characters,); every kind of line end is a newline."""
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
        held = np.concatenate((held, code_points_of(block)))
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
    """The finished part of `raw`, the rest, and whether the rest goes on inside a piece.

    A point at the very end waits, too: with a digit behind it, it belongs to the number before it.
    """
    visible = np.flatnonzero(splitting.classes(raw) != alphabet.SPACE)
    open_point = len(visible) and raw[visible[-1]] in alphabet.POINTS
    whole = splitting.split(raw[: visible[-1]] if open_point else raw, continues)
    size = len(whole.code_points)
    if size < 2:
        return splitting.split(raw[:0], continues), raw, continues
    last_start = int(whole.starts[-2])
    inside = last_start == 0 or size - last_start > size // 2
    border = _outside_numbers(whole, size - 1) if inside else last_start
    return split_at(whole, border)[0], raw[visible[border] :], border not in whole.starts


def _outside_numbers(chunk: Chunk, border: int) -> int:
    """The border, or one before it that cuts no number, if there is any."""
    if chunk.uncut is None:
        return border
    inside = chunk.uncut[:border]
    if chunk.numbers is not None:
        inside = inside | chunk.numbers[1 : border + 1]
    good = np.flatnonzero(~inside)
    return int(good[-1]) + 1 if len(good) else border
