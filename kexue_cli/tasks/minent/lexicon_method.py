"""What the lexicon-building methods share: counting, and cutting text with the lexicon found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent import ngrams
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.joining import Joiner
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.memory import check_memory
from kexue_cli.tasks.minent.ngrams import Advance, MergedWindows
from kexue_cli.tasks.minent.piece_table import Pieces, counts_of, lengths_of
from kexue_cli.tasks.minent.segment import WordTrie
from kexue_cli.tasks.minent.symbols import SymbolTable

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

SAVE_FROM_SECONDS = 10.0  # counting that took so long is not done again by a run that goes on


class LexiconCutter:
    """A lexicon, and the best segmentation by the product of its words' probabilities."""

    def __init__(self) -> None:
        self._words = Lexicon([], np.empty(0, np.int64))
        self._trie: WordTrie | None = None

    def take(self, words: Lexicon) -> None:
        """Use another lexicon from now on."""
        self._words, self._trie = words, None

    def lexicon(self) -> Lexicon:
        """The words found, with their counts."""
        return self._words

    def training_ends(self) -> NDArray[np.bool_] | None:
        """None: the text learned from is cut like any other."""
        return None

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Word ends (characters,) of pieces that begin at `starts` (pieces + 1)."""
        if self._trie is None:
            self._trie = WordTrie.of(self._words.words, self._words.log_probabilities())
        return self._trie.cut(code_points, starts)

    def state_dict(self) -> dict[str, Any]:
        """Words and counts."""
        import torch  # only here: counting alone does not need it

        return {"words": self._words.words, "counts": torch.from_numpy(self._words.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take words and counts."""
        self.take(Lexicon(list(state["words"]), state["counts"].numpy()))


@dataclass(frozen=True)
class Counting:
    """How n-grams are counted; the fields are the configuration's."""

    order: int
    rule: str = "open"
    memory_mib: int = 1024
    workers: int | None = None
    engine: str = "local"
    scratch: str | None = None

    def check(self) -> None:
        """Raise ConfigError where memory_mib is too little, or more than there is."""
        if self.engine == "local":  # with ray it is a bound of each job
            check_memory(self.memory_mib)

    @contextmanager
    def merged(self, corpus: Corpus, advance: Advance) -> Iterator[MergedWindows]:
        """All n-grams of the corpus as records in key order; same bits whatever the engine."""
        if self.engine == "ray":
            from kexue_cli.tasks.minent.ray_counts import count_ngrams_with_ray

            counts = count_ngrams_with_ray(corpus, self.order, self.rule, self.memory_mib, advance)
            yield counts.as_merged()
            return
        with ngrams.merged_windows(
            corpus,
            self.order,
            self.rule,
            memory_mib=self.memory_mib,
            workers=self.workers,
            scratch=Path(self.scratch).expanduser() if self.scratch else None,
            advance=advance,
        ) as windows:
            yield windows


def saved_or(ctx: Context, count: Callable[[], Joiner]) -> Joiner:
    """What an interrupted run had counted; else what `count` gives, saved if that took long."""
    saved = (ctx.resume or {}).get("fit")
    if saved is not None:
        ctx.console.say("the n-grams were counted before the interruption: on with the cutting")
        return Joiner.from_state(saved)
    start = time.monotonic()
    joiner = count()
    if time.monotonic() - start >= SAVE_FROM_SECONDS:
        ctx.save_checkpoint({"task": {}, "fit": joiner.state()})
    return joiner


@contextmanager
def watched(ctx: Context, description: str) -> Iterator[Advance]:
    """A progress line that also stops the work when the run is asked to stop."""
    with ctx.console.progress(None, description, unit="characters") as bar:

        def advance(symbols: int) -> None:
            ctx.stop.raise_if_requested()
            bar.advance(symbols)

        yield advance


def lexicon_of(table: Pieces, symbols: SymbolTable, entries: NDArray[np.int64]) -> Lexicon:
    """The chosen entries of a table of pieces, spelled, in their order."""
    ends = table.ends[: int(table.filled[0])]
    text = symbols.spell_symbols(table.pool[: int(table.filled[1])])
    begins = (ends - lengths_of(table))[entries].tolist()
    words = [text[a:b] for a, b in zip(begins, ends[entries].tolist(), strict=True)]
    return Lexicon(words, counts_of(table)[entries].copy())


def by_count(table: Pieces) -> NDArray[np.int64]:
    """Entries with a count above 0, by falling count, equal ones in order of appearance."""
    counts = counts_of(table)
    entries = np.flatnonzero(counts)
    return entries[np.argsort(-counts[entries], kind="stable")]
