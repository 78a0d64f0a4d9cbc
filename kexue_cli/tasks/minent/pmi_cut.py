"""Words by cutting where mutual information is low (kexue.fm 5476, "cut at once").

Count n-grams; keep the solid ones; cut the text wherever no solid n-gram joins two characters; the
pieces are candidates; rare and redundant candidates give their counts to their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue_cli.tasks.minent.data import Corpus, nothing_to_search
from kexue_cli.tasks.minent.description_length import DescriptionLength, of_counts
from kexue_cli.tasks.minent.frequent import FrequentNgrams, frequent_ngrams
from kexue_cli.tasks.minent.joining import Joiner, Measured, cohesions, solid_ngrams
from kexue_cli.tasks.minent.lexicon_method import (
    Counting,
    LexiconCutter,
    by_count,
    lexicon_of,
    saved_or,
    watched,
)
from kexue_cli.tasks.minent.ngrams import (
    Advance,
    MergedWindows,
    merged_windows,
    order_too_large,
)
from kexue_cli.tasks.minent.piece_table import Pieces, counts_of, lengths_of
from kexue_cli.tasks.minent.redundancy import remove_redundant, with_single_symbols
from kexue_cli.tasks.minent.splitting import CHUNK_CHARACTERS, Chunk, concatenate
from kexue_cli.tasks.minent.symbols import Chunks, SymbolTable
from kexue_cli.tasks.minent.word_discovery import pass_back_check

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

LEAST_STRETCH = 1 << 12  # characters read at a time for the sample: more than any order has


@dataclass(frozen=True)
class CutRules:
    """What is rare, and what is redundant.

    min_count       n-grams and candidates seen less often are dropped
    min_proba       likewise by relative frequency, among n-grams of one order or candidates
    rare            what becomes of rare candidates: `split` gives their counts to their parts,
                    `drop` forgets them
    redundancy      `entropy`: a candidate stays if it saves `nats_per_joint`; `back_check`: if the
                    n-grams in it are solid; `none`: every candidate stays
    nats_per_joint  what a word must save over its parts for each joint inside it
    """

    min_count: int = 2
    min_proba: float = 0.0
    rare: str = "split"
    redundancy: str = "entropy"
    nats_per_joint: float = 1.0


def cut(
    corpus: Chunks, joiner: Joiner, rules: CutRules, advance: Advance = lambda symbols: None
) -> Pieces:
    """Candidates and their counts, after the removal of rare and redundant ones (count 0)."""
    symbols = joiner.table
    table = joiner.count_words(corpus, advance)
    numbers = counts_of(table)
    rare = at_least(rules, int(numbers.sum()))
    if rules.rare == "drop":
        numbers[numbers < rare] = 0
    if rules.redundancy == "back_check":
        numbers[~pass_back_check(table, joiner.slots, joiner.order, symbols.bits)] = 0
    first, size = symbols.first, len(symbols.code_points)
    table = with_single_symbols(table, np.arange(first, first + size, dtype=np.uint32))
    longest_first = np.argsort(-lengths_of(table), kind="stable")
    saving = rules.nats_per_joint if rules.redundancy == "entropy" else -np.inf
    remove_redundant(table, longest_first, saving, rare if rules.rare == "split" else 1)
    return table


@dataclass(frozen=True)
class MeasuredNgrams:
    """The n-grams of a corpus with their cohesion, to be judged by any thresholds."""

    table: SymbolTable
    order: int
    measured: list[Measured]

    @staticmethod
    def of(ngrams: FrequentNgrams) -> MeasuredNgrams:
        """Measure once."""
        return MeasuredNgrams(ngrams.table, ngrams.order, cohesions(ngrams))

    def joiner(self, min_pmi: Sequence[float]) -> Joiner:
        """What joins characters at thresholds min_pmi (order,), nats, the first of no effect."""
        return Joiner(self.table, self.order, solid_ngrams(self.measured, min_pmi))


def frequent(merged: MergedWindows, rules: CutRules) -> FrequentNgrams:
    """The n-grams that are not rare; others join nothing, nor are they parts of those."""
    windows = merged.windows
    return frequent_ngrams(
        merged.parts, windows.table, windows.order, at_least(rules, merged.whole)
    )


def at_least(rules: CutRules, total: int) -> int:
    """The smallest count that is not rare, of `total` counted."""
    return max(rules.min_count, int(rules.min_proba * total) + 1)


def two_part_length(table: Pieces) -> DescriptionLength:
    """Description length of the text as the table's words, and of the words spelled."""
    counts, lengths = counts_of(table), lengths_of(table)
    used = counts > 0
    spelled = np.repeat(used, lengths)
    letters = np.bincount(table.pool[: len(spelled)][spelled])
    return of_counts(counts[used], lengths[used], letters)


@dataclass
class PmiCut(LexiconCutter):
    """model=pmi_cut; the fields are the configuration's, see `CutRules` and `Counting`.

    min_pmi is one number for each order from 2 on, or one number x that stands for x, 2x, 3x …,
    or None: then x is chosen from `grid` by two-part description length, on about the first
    `choose_on_characters` characters.
    """

    order: int
    min_pmi: Any
    min_count: int
    min_proba: float
    rare: str
    redundancy: str
    nats_per_joint: float
    grid: Sequence[float]
    choose_on_characters: int
    memory_mib: int
    workers: int | None
    engine: str
    scratch: str | None

    def __post_init__(self) -> None:
        super().__init__()
        self._rules = CutRules(
            self.min_count, self.min_proba, self.rare, self.redundancy, self.nats_per_joint
        )
        self._counting = Counting(
            self.order, "open", self.memory_mib, self.workers, self.engine, self.scratch
        )

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Count, choose the threshold if none is given, cut, remove."""
        joiner = saved_or(ctx, lambda: self._count(ctx, corpus))
        with watched(ctx, "cutting") as advance:
            table = cut(corpus, joiner, self._rules, advance)
        self.take(lexicon_of(table, joiner.table, by_count(table)))
        if not any(len(word) > 1 for word in self.lexicon().words):
            ctx.console.warn(
                "no word of two or more characters was found: no n-gram seen often enough reaches "
                "model.min_pmi; lower it or model.min_count, or give more text"
            )

    def _count(self, ctx: Context, corpus: Corpus) -> Joiner:
        self._counting.check()
        thresholds = self._thresholds(ctx, corpus)
        with (
            watched(ctx, "counting n-grams") as advance,
            self._counting.merged(corpus, advance) as merged,
        ):
            return MeasuredNgrams.of(frequent(merged, self._rules)).joiner(thresholds)

    def _thresholds(self, ctx: Context, corpus: Corpus) -> list[float]:
        """min_pmi of every order, nats."""
        if self.min_pmi is None:
            return rising(self._choose(ctx, corpus), self.order)
        if isinstance(self.min_pmi, int | float):
            return rising(float(self.min_pmi), self.order)
        return [0.0, *map(float, self.min_pmi)]

    def _choose(self, ctx: Context, corpus: Corpus) -> float:
        """The step of the grid whose cut of a sample has the smallest two-part length."""
        sample = sample_of(
            corpus,
            self.choose_on_characters,
            self.order,
            lambda _: ctx.stop.raise_if_requested(),
        )
        with merged_windows(sample, self.order, memory_mib=self.memory_mib) as merged:
            ngrams = MeasuredNgrams.of(frequent(merged, self._rules))
        steps = count()

        def two_part(nats: float) -> float:
            ctx.stop.raise_if_requested()
            joiner = ngrams.joiner(rising(nats, self.order))
            length = two_part_length(cut(sample, joiner, self._rules))
            ctx.log(
                step=next(steps),
                min_pmi=nats,
                entropy_per_character_nats=length.nats_per_character,
                two_part_nats_per_character=length.two_part_nats_per_character,
                vocabulary=length.types,
            )
            return length.two_part_nats_per_character

        chosen = lowest(self.grid, two_part)
        ctx.console.say(
            f"threshold {chosen:g} nats per joint, chosen by two-part description length"
        )
        return chosen


def lowest(grid: Sequence[float], height: Callable[[float], float]) -> float:
    """Go downhill from the middle of a grid to a point that is lower than its neighbours."""
    heights: dict[int, float] = {}
    place = len(grid) // 2
    while True:
        around = [i for i in (place, place - 1, place + 1) if 0 <= i < len(grid)]
        for i in around:
            if i not in heights:
                heights[i] = height(grid[i])
        best = min(around, key=lambda i: heights[i])
        if best == place:
            return grid[place]
        place = best


@dataclass(frozen=True)
class Sample:
    """A chunk in memory, read as a corpus."""

    chunk: Chunk

    def chunks(self, chunk_characters: int) -> Iterator[Chunk]:
        """The one chunk."""
        yield self.chunk


def sample_of(
    corpus: Corpus, characters: int, order: int, advance: Advance = lambda characters: None
) -> Sample:
    """About so many characters, from the first stretch on that has a piece of `order` letters.

    A text may begin with a list of short words, or with a table of numbers.
    Raises UserError where no piece of the text is so long.
    """
    kept: list[Chunk] = []
    size = longest = 0
    for chunk in corpus.chunks(min(CHUNK_CHARACTERS, max(characters // 16, LEAST_STRETCH))):
        advance(len(chunk.code_points))
        if not kept:
            longest = max(longest, int(np.diff(chunk.segmentable()[1]).max(initial=0)))
        if longest >= order:
            kept.append(chunk)
            size += len(chunk.code_points)
        if size >= characters:
            break
    if not kept:
        raise order_too_large(order, longest) if longest else nothing_to_search(corpus)
    return Sample(concatenate(kept))


def rising(nats: float, order: int) -> list[float]:
    """Thresholds 0, x, 2x, 3x … of orders 1, 2, 3, 4 …: one step for each joint."""
    return [nats * joints for joints in range(order)]
