"""One pass over a corpus: cut it, write the words, count and score them, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.files import replacing
from kexue_cli.tasks.minent import description_length
from kexue_cli.tasks.minent.description_length import NATS_PER_BIT, DescriptionLength
from kexue_cli.tasks.minent.ngram_kernels import numba
from kexue_cli.tasks.minent.piece_table import PieceCounter, counts_of, lengths_of
from kexue_cli.tasks.minent.scores import Scores
from kexue_cli.tasks.minent.splitting import Chunk

CODE_POINTS = 0x110000
SPACE, NEWLINE = 32, 10
MAX_UTF8 = 4  # bytes of a character

Segmented = Iterator[tuple[Chunk, NDArray[np.bool_]]]


@dataclass
class Tally:
    """What one pass leaves.

    words       of the pieces in which words were searched, and how often each was used
    others      likewise for the tokens that were never cut: punctuation, whole runs
    characters  (0x110000,) count of each code point
    scores      against gold, if there is one
    """

    words: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    characters: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODE_POINTS, np.int64))
    scores: Scores | None = None

    def length(self) -> DescriptionLength:
        """Two-part description length of all tokens."""
        both = dict(self.words)
        for word, count in self.others.items():
            both[word] = both.get(word, 0) + count
        return description_length.of_words(both)

    def metrics(self) -> dict[str, float]:
        """The post's quantities and, with gold, the scores."""
        before = description_length.entropy_nats(self.characters)
        found = {
            "entropy_per_character_before_bits": before / NATS_PER_BIT,
            "entropy_per_character_before_nats": before,
            **self.length().metrics(),
        }
        if self.words:
            counts = np.fromiter(self.words.values(), np.int64, len(self.words))
            lengths = np.fromiter(map(len, self.words), np.int64, len(self.words))
            found |= description_length.coverage(counts, lengths)
        return found | (self.scores.metrics() if self.scores else {})


def tally_and_write(
    segmented: Segmented, gold: NDArray[np.bool_] | None, path: Path | None
) -> Tally:
    """Take a stream of chunks and their word ends; write words separated by spaces to `path`.

    gold (characters of the whole corpus,) overrides the chunks' own. Lines stay lines, but for a
    word over a line end (`as_written`); the file appears when it is whole.
    """
    tally = Tally()
    if path is None:
        for _ in _counted(segmented, gold, tally):
            pass
        return tally
    with replacing(path) as temporary, temporary.open("wb") as file:
        for chunk, ends in _counted(segmented, gold, tally):
            file.write(spaced_utf8(chunk, ends))
    return tally


def _counted(segmented: Segmented, gold: NDArray[np.bool_] | None, tally: Tally) -> Segmented:
    """Pass the chunks on while they are counted into `tally`."""
    counters = PieceCounter(), PieceCounter()
    position = 0
    for chunk, ends in segmented:
        size = len(chunk.code_points)
        letters, inside, whole = chunk.letters(), chunk.inside(), chunk.letter_ends()
        tally.characters += np.bincount(letters[whole], minlength=CODE_POINTS)
        for counter, part in zip(counters, (inside, whole & ~inside), strict=True):
            _count(counter, letters[part], ends[part])
        known = chunk.gold if gold is None else gold[position : position + size]
        if known is not None and size:
            tally.scores = tally.scores or Scores()
            tally.scores.add(chunk.code_points, ends, known, line_end_flags(chunk))
        position += size
        yield chunk, ends
    tally.words, tally.others = (_table(counter) for counter in counters)


def _count(counter: PieceCounter, characters: NDArray[np.uint32], ends: NDArray[np.bool_]) -> None:
    if len(ends):
        counter.add(characters, np.concatenate(([True], ends[:-1])))


def _table(counter: PieceCounter) -> dict[str, int]:
    """Words and counts, the most frequent first, equal ones by spelling."""
    table = counter.finish()
    ends = table.ends[: len(lengths_of(table))].tolist()
    letters = (
        table.pool[: int(table.filled[1])]
        .astype("<u4")
        .tobytes()
        .decode("utf-32-le", "surrogatepass")
    )
    words = (
        letters[end - n : end] for end, n in zip(ends, lengths_of(table).tolist(), strict=True)
    )
    pairs = zip(words, counts_of(table).tolist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def line_end_flags(chunk: Chunk) -> NDArray[np.bool_]:
    """(characters,) whether a line ends after this character."""
    flags = np.zeros(len(chunk.code_points), np.bool_)
    flags[chunk.line_ends[chunk.line_ends > 0] - 1] = True
    return flags


def as_written(chunk: Chunk, ends: NDArray[np.bool_]) -> Chunk:
    """The chunk with its lines as they are written: one that ends inside a word goes on to its end.

    No word is broken so, and there are as many lines as in the text.
    """
    inner = chunk.line_ends[chunk.line_ends > 0]
    if ends[inner - 1].all():
        return chunk
    places = np.concatenate(([0], np.flatnonzero(ends) + 1, [len(ends)]))
    return replace(chunk, line_ends=places[np.searchsorted(places, chunk.line_ends)])


def spaced_text(chunk: Chunk, ends: NDArray[np.bool_]) -> str:
    """The chunk's text with a space after each word, lines as they were but for words over them."""
    return spaced_utf8(chunk, ends).decode("utf-8", "surrogatepass")


def spaced_utf8(chunk: Chunk, ends: NDArray[np.bool_]) -> bytes:
    """As `spaced_text`, in UTF-8; half a surrogate pair is written as it is."""
    size = len(chunk.code_points)
    out = np.empty((MAX_UTF8 + 1) * size + len(chunk.line_ends), np.uint8)
    length = _write_spaced(chunk.code_points, ends, as_written(chunk, ends).line_ends, out)
    return out[:length].tobytes()


@numba.njit(nogil=True, cache=True)
def _write_spaced(
    code_points: NDArray[np.uint32],
    ends: NDArray[np.bool_],
    line_ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Write UTF-8 to `out`, which must have room; returns how many bytes."""
    place = line = 0
    for i in range(code_points.size + 1):
        if line < line_ends.size and line_ends[line] == i:
            while line < line_ends.size and line_ends[line] == i:
                out[place] = NEWLINE
                place += 1
                line += 1
        elif i and ends[i - 1]:
            out[place] = SPACE
            place += 1
        if i < code_points.size:
            place = _write_utf8(code_points[i], out, place)
    return place


@numba.njit(nogil=True, cache=True, inline="always")
def _write_utf8(code: np.uint32, out: NDArray[np.uint8], place: int) -> int:
    """Write one character at out[place]; returns the place after it."""
    if code < 0x80:
        out[place] = code
        return place + 1
    if code < 0x800:
        out[place] = 0xC0 | (code >> 6)
    else:
        if code < 0x10000:
            out[place] = 0xE0 | (code >> 12)
        else:
            out[place] = 0xF0 | (code >> 18)
            place += 1
            out[place] = 0x80 | ((code >> 12) & 0x3F)
        place += 1
        out[place] = 0x80 | ((code >> 6) & 0x3F)
    out[place + 1] = 0x80 | (code & 0x3F)
    return place + 2
