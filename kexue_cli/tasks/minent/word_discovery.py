"""The author's word discovery (kexue.fm 6920; github.com/bojone/word-discovery), step by step.

Count n-grams, keep the solid ones, cut the text by joining them, keep frequent pieces, and check
each piece back against the solid n-grams. Given the same n-gram counts the lexicon is the one that
the author's program writes, except for its "words" of white space.

With rule=kenlm the counts are his too: KenLM's padded windows, rare windows dropped before shorter
n-grams are summed from them. On a few megabytes that loses nearly everything, as it did for him;
rule=open counts every n-gram plainly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.data import Corpus, nothing_to_search
from kexue_cli.tasks.minent.frequent import frequent_ngrams
from kexue_cli.tasks.minent.joining import Joiner, cohesions, in_set, solid_ngrams
from kexue_cli.tasks.minent.lexicon_method import (
    Counting,
    LexiconCutter,
    lexicon_of,
    saved_or,
    watched,
)
from kexue_cli.tasks.minent.ngram_kernels import Keys, numba
from kexue_cli.tasks.minent.ngram_runs import Run
from kexue_cli.tasks.minent.ngrams import Advance, MergedWindows
from kexue_cli.tasks.minent.piece_table import Pieces, counts_of
from kexue_cli.tasks.minent.symbols import Chunks

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

BEGIN, STOP = 1, 2  # marks of the kenlm rule
LOOK_CHARACTERS = 1 << 16  # looked through at a time for any that words are searched in
SHORT = 3  # shorter words are not checked back


def frequent_windows(merged: MergedWindows, min_count: int) -> tuple[Run, int]:
    """KenLM's windows seen at least `min_count` times, marks cut off; the sum of their counts."""
    kept = [Run(np.empty(0, np.uint64), np.empty(0, np.uint64))]
    for part in merged.parts:
        frequent = part.counts >= min_count
        kept.append(Run(part.keys[frequent], part.counts[frequent]))
    keys, numbers = (
        np.concatenate(c) for c in zip(*((r.keys, r.counts) for r in kept), strict=True)
    )
    bits, order = merged.windows.table.bits, merged.windows.order
    mask = np.uint64((1 << bits) - 1)
    keys = np.where((keys & mask) == STOP, keys & ~mask, keys)
    whole = np.uint64((1 << (order * bits)) - 1)
    for _ in range(order - 1):
        begins = (keys >> np.uint64((order - 1) * bits)) == BEGIN
        keys = np.where(begins, (keys << np.uint64(bits)) & whole, keys)
    distinct, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, weights=numbers.astype(np.float64), minlength=len(distinct))
    return Run(distinct, np.rint(sums).astype(np.uint64)), int(numbers.sum())


def solid_of(merged: MergedWindows, min_pmi: Sequence[float], min_count: int) -> Keys:
    """The solid n-grams by the author's rules; min_pmi (order,), nats, the first of no effect."""
    table, order = merged.windows.table, merged.windows.order
    if merged.windows.rule == "kenlm":
        records, total = frequent_windows(merged, min_count)
        ngrams = frequent_ngrams([records], table, order, 1)
    else:
        ngrams = frequent_ngrams(merged.parts, table, order, min_count)
        total = ngrams.totals[0]
    return solid_ngrams(cohesions(ngrams, total), min_pmi)


@numba.njit(nogil=True, cache=True)
def pass_back_check(table: Pieces, solid_set: Keys, order: int, bits: int) -> NDArray[np.bool_]:
    """Whether each entry is held together: (entries,).

    Words below 3 symbols are; up to `order` symbols the word itself must be solid, above that
    every window of `order` symbols.
    """
    passed = np.ones(table.filled[0], np.bool_)
    begin = 0
    for entry in range(passed.size):
        end = table.ends[entry]
        if end - begin >= SHORT:
            width = min(order, end - begin)
            for first in range(begin, end - width + 1):
                key = np.uint64(0)
                for i in range(order):
                    key <<= np.uint64(bits)
                    if i < width:
                        key |= np.uint64(table.pool[first + i])
                passed[entry] &= in_set(solid_set, key)
        begin = end
    return passed


def discover(
    corpus: Chunks, joiner: Joiner, min_count: int, advance: Advance = lambda symbols: None
) -> tuple[Pieces, NDArray[np.int64]]:
    """The words of a corpus whose solid n-grams are known: a table of pieces, the chosen entries.

    The entries come by falling count, those of equal count in the order of first appearance.
    """
    table = joiner.count_words(corpus, advance)
    kept = counts_of(table) >= min_count
    kept &= pass_back_check(table, joiner.slots, joiner.order, joiner.table.bits)
    entries = np.flatnonzero(kept)
    return table, entries[np.argsort(-counts_of(table)[entries], kind="stable")]


@dataclass
class WordDiscovery(LexiconCutter):
    """model=word_discovery; the fields are the configuration's.

    min_pmi    nats, one for each order from 2 on
    min_count  of windows (rule=kenlm) or n-grams (rule=open), and of words
    max_words  only the most frequent words are kept, as the author cut at 50,000; None: all
    """

    order: int
    min_pmi: Sequence[float]
    min_count: int
    max_words: int | None
    rule: str
    memory_mib: int
    workers: int | None
    engine: str
    scratch: str | None

    def __post_init__(self) -> None:
        super().__init__()
        self._counting = Counting(
            self.order, self.rule, self.memory_mib, self.workers, self.engine, self.scratch
        )

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Count, join, check back."""
        if not any(chunk.free.any() for chunk in corpus.chunks(LOOK_CHARACTERS)):
            raise nothing_to_search(corpus)  # counting would take the marks of emoji for text
        joiner = saved_or(ctx, lambda: self._count(ctx, corpus))
        with watched(ctx, "joining") as advance:
            table, entries = discover(corpus, joiner, self.min_count, advance)
        self.take(lexicon_of(table, joiner.table, entries[: self.max_words]))
        if not len(entries):
            ctx.console.warn(
                f"no piece of text was seen model.min_count={self.min_count} times and passed "
                "model.min_pmi; lower them, or count plainly with model.rule=open"
            )

    def _count(self, ctx: Context, corpus: Corpus) -> Joiner:
        self._counting.check()
        thresholds = [0.0, *map(float, self.min_pmi)]
        with (
            watched(ctx, "counting n-grams") as advance,
            self._counting.merged(corpus, advance) as merged,
        ):
            solid = solid_of(merged, thresholds, self.min_count)
        return Joiner(merged.windows.table, self.order, solid)
