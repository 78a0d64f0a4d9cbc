"""One pass over a corpus: cut it, write the words, count and score them, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.files import replacing
from kexue_cli.tasks.minent import description_length
from kexue_cli.tasks.minent.description_length import NATS_PER_BIT, DescriptionLength
from kexue_cli.tasks.minent.piece_table import PieceCounter, counts_of, lengths_of
from kexue_cli.tasks.minent.scores import Scores
from kexue_cli.tasks.minent.splitting import Chunk

CODE_POINTS = 0x110000
SPACE, NEWLINE = 32, 10

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

    gold (characters of the whole corpus,) overrides the chunks' own. Lines stay lines; the file
    appears when it is whole.
    """
    tally = Tally()
    if path is None:
        for _ in _counted(segmented, gold, tally):
            pass
        return tally
    with replacing(path) as temporary, temporary.open("wb") as file:
        for chunk, ends in _counted(segmented, gold, tally):
            file.write(spaced_text(chunk, ends).encode("utf-8", "surrogatepass"))
    return tally


def _counted(segmented: Segmented, gold: NDArray[np.bool_] | None, tally: Tally) -> Segmented:
    """Pass the chunks on while they are counted into `tally`."""
    counters = PieceCounter(), PieceCounter()
    position = 0
    for chunk, ends in segmented:
        size = len(chunk.code_points)
        tally.characters += np.bincount(chunk.code_points, minlength=CODE_POINTS)
        inside = np.repeat(chunk.free, np.diff(chunk.starts))
        for counter, part in zip(counters, (inside, ~inside), strict=True):
            _count(counter, chunk.code_points[part], ends[part])
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
    letters = table.pool[: int(table.filled[1])].astype("<u4").tobytes().decode("utf-32-le")
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


def spaced_text(chunk: Chunk, ends: NDArray[np.bool_]) -> str:
    """The chunk's text with a space after each word, lines as they were."""
    size = len(chunk.code_points)
    newlines = np.bincount(chunk.line_ends, minlength=size + 1)  # [i]: before character i
    added = np.where(newlines[1:] > 0, newlines[1:], ends)  # after each character
    places = newlines[0] + np.arange(size) + np.cumsum(added) - added
    out = np.full(int(newlines[0] + size + added.sum()), SPACE, "<u4")
    out[: newlines[0]] = NEWLINE
    after_lines = np.repeat(places, np.where(newlines[1:] > 0, newlines[1:], 0))
    steps = np.arange(len(after_lines)) - np.searchsorted(after_lines, after_lines)
    out[after_lines + 1 + steps] = NEWLINE
    out[places] = chunk.code_points
    return out.tobytes().decode("utf-32-le", "surrogatepass")
