"""A lexicon: words and counts, read from and written to files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require

COUNT = re.compile("[0-9]{1,15}")


@dataclass(frozen=True)
class Lexicon:
    """Words by falling count.

    words   list of (words,) strings
    counts  (words,) int64, how often each occurs in the segmented text
    """

    words: list[str]
    counts: NDArray[np.int64]

    @staticmethod
    def of(counts: dict[str, int]) -> Lexicon:
        """Sort by falling count, equal ones by spelling."""
        pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return Lexicon([w for w, _ in pairs], np.array([n for _, n in pairs], np.int64))

    def __len__(self) -> int:
        return len(self.words)

    def log_probabilities(self) -> NDArray[np.float64]:
        """Natural logarithm of count / total, (words,)."""
        return np.log(np.maximum(self.counts, 1) / max(1, self.counts.sum()))

    def jieba_text(self) -> str:
        """The user-dictionary form of jieba: `word count` a line, no byte-order mark."""
        return "".join(f"{w} {n}\n" for w, n in zip(self.words, self.counts.tolist(), strict=True))


def read_lexicon(path: str | Path) -> Lexicon:
    """Read `word count` lines (jieba's form; a third field, the word class, is allowed).

    Raises UserError naming file and line.
    """
    counts: dict[str, int] = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) not in (2, 3) or not COUNT.fullmatch(fields[1]):
            raise UserError(
                f"{path}: line {number}: expected `word count` with a count below 10^15, "
                f"found {line!r}"
            )
        word, count = fields[0], int(fields[1])
        if counts.setdefault(word, count) != count:  # jieba's dictionary itself repeats a line
            raise UserError(
                f"{path}: line {number}: {word!r} has the count {count} here, "
                f"{counts[word]} further up; keep one of the lines"
            )
    if not any(counts.values()):
        raise UserError(f"{path}: expected `word count` lines, found none with a count above 0")
    return Lexicon.of(counts)


def known_words(source: str) -> set[str]:
    """Words to exclude: `jieba`'s dictionary, the first column of a .csv or field of other files.

    Raises UserError for a file that cannot be read or holds no word.
    """
    if source == "jieba":
        source = str(Path(str(require("jieba", extra="zh").__file__)).parent / "dict.txt")
    if not source.strip():
        raise UserError(
            "task.exclude: expected `jieba` or a file with a word on each line, found nothing; "
            "name one, or leave task.exclude out"
        )
    lines = [line for _, line in _lines(source, "task.exclude=")]
    words = _first_column(lines, source) if source.endswith(".csv") else _first_fields(lines)
    if not words:
        raise UserError(f"task.exclude={source}: expected a word on each line, found none")
    return words


def _first_fields(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines}


def _first_column(lines: list[str], source: str) -> set[str]:
    """Of a .csv, without the heading `word` that lexicon.csv has."""
    try:
        column = [row[0] for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise UserError(
            f"task.exclude={source}: not a .csv ({error}); is a quotation mark open?"
        ) from error
    return set(column[1:] if column[:1] == ["word"] else column)


def _lines(path: str | Path, setting: str = "") -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank; errors name the file after `setting`."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{setting}{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{setting}{path}: byte {error.start} is not UTF-8; convert the list"
        ) from error
    return ((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip())


def branching_entropies(
    tokens: NDArray[np.int64], sentence_ends: NDArray[np.bool_], words: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right branching entropy in bits of words 0 … words - 1, (words,) each.

    tokens (tokens,) are the text in word numbers, sentence_ends (tokens,) whether a sentence ends
    there. A sentence end is a neighbour of its own each time, as it does not bind. A word with
    high values on both sides is used freely.
    """
    ends = np.append(True, sentence_ends)  # before the first token and after each
    marks = words + np.cumsum(ends)
    before = np.where(ends[:-1], marks[:-1], np.append(0, tokens[:-1]))
    after = np.where(ends[1:], marks[1:], np.append(tokens[1:], 0))
    return _entropy_bits(tokens, before, words), _entropy_bits(tokens, after, words)


def _entropy_bits(
    tokens: NDArray[np.int64], neighbours: NDArray[np.int64], words: int
) -> NDArray[np.float64]:
    """Entropy of the neighbours of each word, (words,)."""
    pairs, counts = np.unique(tokens << 32 | neighbours, return_counts=True)
    owner = pairs >> 32
    total = np.bincount(owner, counts, words)
    weighted = np.bincount(owner, counts * np.log2(counts), words)
    seen = np.maximum(total, 1)
    return np.log2(seen) - weighted / seen
