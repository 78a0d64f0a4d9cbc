"""The files of a run: lexicon.csv, lexicon.txt, new_words.csv, before_after.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kexue_cli.tasks.minent.description_length import NATS_PER_BIT
from kexue_cli.tasks.minent.lexicon import Lexicon, branching_entropies
from kexue_cli.tasks.minent.segmentation import Tally, as_written, line_end_flags, spaced_text
from kexue_cli.tasks.minent.splitting import Chunk, split_at
from kexue_cli.tasks.minent.word_numbers import numbered_words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from omegaconf import DictConfig

    from kexue_cli.run.context import Context

PAGE_LINES, LINE_CHARACTERS = 40, 200
LOWERED = ("exponent", "min_pmi", "min_count", "min_proba")  # settings that keep words out


def lexicon_table(tally: Tally, sample: Chunk, ends: NDArray[np.bool_]) -> pd.DataFrame:
    """One row a word: count, probability, gain in bits, left and right branching entropy.

    The probability is the word's share of all tokens, punctuation and runs kept whole included.
    The gain is what the text saves by coding the word as one unit and not letter by letter:
    count (log2 p(word) - sum of log2 p(letter)). The entropies are those of `sample`, the first
    stretch of the text, as segmented by `ends`.
    """
    words = list(tally.words)
    counts = np.fromiter(tally.words.values(), np.int64, len(words))
    tokens = int(counts.sum()) + sum(tally.others.values())
    letters = np.log(np.maximum(tally.characters, 1) / max(1, tally.characters.sum()))
    spelled = _sums(letters, words)
    probability = counts / max(1, tokens)
    whole = sample.letter_ends()
    known = [*words, *tally.others]  # a comma is another neighbour than a stop
    numbers = numbered_words(known, sample.letters()[whole], ends[whole])
    left, right = branching_entropies(numbers, _sentence_ends(sample, ends), len(known) + 1)
    return pd.DataFrame(
        {
            "word": words,
            "count": counts,
            "probability": probability,
            "gain_bits": counts * (np.log(probability) - spelled) / NATS_PER_BIT,
            "left_entropy_bits": left[: len(words)],
            "right_entropy_bits": right[: len(words)],
        }
    )


def _sums(values: NDArray[np.float64], words: list[str]) -> NDArray[np.float64]:
    """Of each word the sum of its characters' values, (words,); values (0x110000,)."""
    points = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), "<u4")
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    starts = np.cumsum(lengths) - lengths
    sums, rows = np.zeros(len(words)), np.arange(len(words))
    for place in range(int(lengths.max(initial=0))):
        rows = rows[lengths[rows] > place]  # ever fewer: one word of a million letters takes no row
        sums[rows] += values[points[starts[rows] + place]]
    return sums


def _sentence_ends(chunk: Chunk, ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
    flags = line_end_flags(as_written(chunk, ends))[ends]
    flags[-1:] = True
    return flags


def write_lexicon(ctx: Context, table: pd.DataFrame) -> None:
    """lexicon.csv and lexicon.txt."""
    ctx.directory.write_table("lexicon.csv", table)
    lexicon = Lexicon(table["word"].tolist(), table["count"].to_numpy())
    ctx.directory.write_text("lexicon.txt", lexicon.jieba_text())


def write_new_words(ctx: Context, table: pd.DataFrame, known: set[str], source: str) -> None:
    """new_words.csv: of several characters, seen twice or more, not known, by falling gain."""
    long = table["word"].str.len() > 1
    often = table["count"] > 1
    new = table[long & often & ~table["word"].isin(known)]
    new = new.sort_values("gain_bits", ascending=False)
    ctx.directory.write_table("new_words.csv", new)
    if known.isdisjoint(table["word"]):
        ctx.console.warn(
            f"none of the {len(known):,} words of task.exclude={source} is in this lexicon; "
            "expected a word at the beginning of each line, or in the first column of a .csv"
        )
    if len(new):
        first = ", ".join(new["word"].head(10))
        ctx.console.say(f"{len(new):,} words are not in {source}: {first} …")
        return
    ctx.console.warn(
        f"no new word: of {len(table):,} words {int(long.sum()):,} have several characters, "
        f"{int((long & often).sum()):,} of these occur twice or more, and {source} "
        f"({len(known):,} words) has them all"
    )


def explain_nothing(ctx: Context, tally: Tally, model: DictConfig) -> None:
    """Say why there is no word of several characters, or none that means anything."""
    if np.count_nonzero(tally.characters) == 1:
        ctx.console.warn(
            "the text is one character repeated: nothing in it shows where a word ends, the words "
            "found mean nothing; see data.path"
        )
        return
    if any(len(word) > 1 for word in tally.words):
        return
    characters = sum(len(word) * count for word, count in tally.words.items())
    if not characters:
        ctx.console.warn(
            "no word was found: the text has no character in which words are searched; "
            "see data.alphabet (any: every character)"
        )
        return
    found = f"no word of several characters was found in {characters:,} characters"
    if model.name == "lexicon":
        ctx.console.warn(f"{found}: {model.path} has none that occurs there")
        return
    if model.get("max_length") == 1:
        ctx.console.warn(f"{found}: model.max_length=1 allows none")
        return
    lower = [f"model.{key}" for key in LOWERED if model.get(key) is not None]
    advice = f"; so may a lower {' or '.join(lower)}" if lower else ""
    ctx.console.warn(
        f"{found} ({len(tally.words):,} different): nothing repeats often enough for a lexicon to "
        f"pay. More text helps{advice}"
    )


def page(chunk: Chunk, ends: NDArray[np.bool_], splitting: str) -> str:
    """How the text was split, and its first lines before and after."""
    line_ends = np.unique(chunk.line_ends[chunk.line_ends > 0])
    if len(line_ends) > PAGE_LINES:
        border = int(line_ends[PAGE_LINES - 1])
        chunk, ends = split_at(chunk, border)[0], ends[:border]
    before = spaced_text(chunk, line_end_flags(chunk)).split("\n")
    after = spaced_text(chunk, ends).split("\n")
    pairs = [
        f"{b[:LINE_CHARACTERS]}\n{a[: 2 * LINE_CHARACTERS]}\n"
        for b, a in zip(before, after, strict=True)
        if b
    ]
    return "\n".join([f"{splitting}\n", *pairs[:PAGE_LINES]])
