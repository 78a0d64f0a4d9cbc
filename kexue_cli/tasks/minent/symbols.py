"""Characters as small integers, a corpus as a stream of them, ready to be packed into n-grams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.alphabet import (
    FREE,
    JOINER,
    NEWLINE,
    SPACE,
    attached_table,
    class_table,
)
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.ngram_kernels import (
    ATTACHED,
    IN_WORDS,
    JOINING,
    SKIPPED,
    SKIPPED_END,
    WORD_END,
    lay_out,
    stream_text,
)
from kexue_cli.tasks.minent.splitting import Chunk, Splitting

CODE_POINTS = 0x110000
KEY_BITS = 64
CARRIAGE_RETURN = 13
CHUNK_CHARACTERS = 1 << 18  # small: what is made of them takes many times their size for a moment


class Chunks(Protocol):
    """Anything that can be read as chunks, as often as needed."""

    def chunks(self, chunk_characters: int) -> Iterator[Chunk]:
        """The text in chunks of about so many characters."""
        ...


@dataclass(frozen=True)
class SymbolTable:
    """The characters of a corpus in the order of their code points.

    code_points  (characters,) uint32, ascending
    first        symbol of the first character; smaller ones are marks (0 end, 1 begin, 2 stop)
    """

    code_points: NDArray[np.uint32]
    first: int = 1

    @property
    def bits(self) -> int:
        """Bits that hold any symbol."""
        return max(1, int(len(self.code_points) + self.first - 1).bit_length())

    def lookup(self) -> NDArray[np.uint32]:
        """Symbol of every code point, (0x110000,); 0 for those that are not in the corpus."""
        table = np.zeros(CODE_POINTS, np.uint32)
        table[self.code_points] = np.arange(len(self.code_points), dtype=np.uint32) + self.first
        return table

    def check_order(self, order: int, key: str = "model.order") -> None:
        """Raise UserError where `order` symbols do not fit a 64-bit key."""
        if order * self.bits > KEY_BITS:
            raise UserError(
                f"{key}={order}: with {len(self.code_points)} distinct characters ({self.bits} bits"
                f" each) at most {KEY_BITS // self.bits} fit a 64-bit key; choose a smaller order"
            )

    def spell(self, key: int, order: int) -> str:
        """The characters of a key, its marks left out."""
        mask = (1 << self.bits) - 1
        symbols = np.array([(key >> (self.bits * i)) & mask for i in reversed(range(order))])
        return self.spell_symbols(symbols[symbols >= self.first])

    def spell_symbols(self, symbols: NDArray[np.integer]) -> str:
        """Text of symbols (length,), none of them a mark."""
        return (
            self.code_points[symbols - self.first]
            .astype("<u4")
            .tobytes()
            .decode("utf-32-le", "surrogatepass")
        )


def survey(corpus: Chunks, first: int = 1) -> tuple[SymbolTable, int]:
    """One quick pass: the characters of a corpus and about how many there are in all."""
    seen = np.zeros(CODE_POINTS, np.bool_)
    total = 0
    text = _as_text(corpus)
    for code_points in raw_text(text) if text else _chunk_text(corpus):
        seen[code_points] = True
        total += len(code_points)
    seen &= class_table() != SPACE
    return SymbolTable(np.flatnonzero(seen).astype(np.uint32), first), total


def raw_text(corpus: Corpus) -> Iterator[NDArray[np.uint32]]:
    """The corpus as blocks of code points, whitespace included."""
    for block in corpus.source.blocks(corpus.max_lines):
        for start in range(0, len(block), CHUNK_CHARACTERS):
            part = block[start : start + CHUNK_CHARACTERS]
            yield np.frombuffer(part.encode("utf-32-le", "surrogatepass"), "<u4")


def _chunk_text(corpus: Chunks) -> Iterator[NDArray[np.uint32]]:
    return (chunk.letters() for chunk in corpus.chunks(CHUNK_CHARACTERS))


def _as_text(corpus: Chunks) -> Corpus | None:
    """The corpus, if it is text whose symbols are its characters: one quick pass will do."""
    if isinstance(corpus, Corpus) and corpus.splitting.numbers == "digits":
        return corpus
    return None


@dataclass(frozen=True)
class Block:
    """A stretch of the symbol stream; windows that start at its first `owned` symbols are its own.

    The symbols after those belong to the next block too, which owns the windows that start there.
    """

    symbols: NDArray[np.uint32]
    owned: int


def blocks(corpus: Chunks, table: SymbolTable, order: int, padded: bool) -> Iterator[Block]:
    """The free pieces of a corpus as blocks of the symbol stream.

    A piece is followed by a 0. `padded`: it is preceded by order - 1 begin marks and ended by a
    stop mark, as KenLM does. A piece that goes over the border of two blocks stays one piece.
    """
    padding = order - 1 if padded else 0
    closing = np.array([2, 0] if padded else [0], np.uint32)
    if text := _as_text(corpus):
        streams = _text_streams(text, table.lookup(), padding, closing)
    else:
        streams = _chunk_streams(corpus, table.lookup(), padding, closing)
    pending = np.empty(0, np.uint32)  # the end of the stream so far, in windows not owned yet
    for stream, is_open in streams:
        symbols = np.concatenate([pending, stream])
        owned = max(0, len(symbols) - (order - 1)) if is_open else len(symbols)
        yield Block(symbols, owned)
        pending = symbols[owned:]


Streams = Iterator[tuple[NDArray[np.uint32], bool]]  # symbols, and whether the last piece is open


def _text_streams(
    corpus: Corpus, symbol_of: NDArray[np.uint32], padding: int, closing: NDArray[np.uint32]
) -> Streams:
    """Straight from the text, one compiled pass; splits exactly as `Splitting.split` does."""
    kinds = _kinds(corpus.splitting)
    state = np.array([0, WORD_END], np.int64)
    for raw in raw_text(corpus):
        room = np.empty(len(raw) * (2 + padding) + 2, np.uint32)
        length = stream_text(raw, kinds, symbol_of, padding, state, room)
        yield room[:length].copy(), bool(state[0])
    if state[0]:
        yield closing, False


def _kinds(splitting: Splitting) -> NDArray[np.uint8]:
    """What `stream_text` wants to know of every code point."""
    classes = class_table()
    kinds = (splitting.alphabet.groups(classes) == FREE) * np.uint8(IN_WORDS)
    kinds |= attached_table() * np.uint8(ATTACHED)
    kinds[JOINER] |= JOINING
    space = classes == SPACE
    space[[ord(c) for c in splitting.separators]] = True
    kinds[space] = SKIPPED_END if splitting.spaces == "cut" else SKIPPED
    if splitting.sentence_ends:
        kinds[[NEWLINE, CARRIAGE_RETURN]] = SKIPPED_END
    return kinds


def _chunk_streams(
    corpus: Chunks, symbol_of: NDArray[np.uint32], padding: int, closing: NDArray[np.uint32]
) -> Streams:
    """From chunks that are split already."""
    is_open = False
    for chunk in corpus.chunks(CHUNK_CHARACTERS):
        if not len(chunk.free):
            continue
        characters, starts = chunk.segmentable()
        joins = is_open and chunk.continues and bool(chunk.free[0])
        room = np.empty(len(characters) + len(starts) * (padding + 2), np.uint32)
        length = lay_out(characters, starts, symbol_of, padding, joins, room)
        parts = [closing if is_open and not joins else closing[:0], room[:length]]
        is_open = bool(chunk.free[-1])
        if length and not is_open:
            parts.append(closing)
        yield np.concatenate(parts), is_open
    if is_open:
        yield closing, False
