"""Exact n-gram counts of any corpus: all orders up to `order` from one sort, out of core.

The boundary rule `open`: an n-gram lies within one piece (a line, cut at punctuation), and nothing
stands for the piece's ends; each order counts every position. The rule `kenlm` is KenLM's
count_ngrams: order - 1 begin marks before a piece, one stop mark after it, whole windows only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent import ngram_store
from kexue_cli.tasks.minent.count_plan import CountPlan
from kexue_cli.tasks.minent.data import Corpus, nothing_to_search
from kexue_cli.tasks.minent.memory import check_memory
from kexue_cli.tasks.minent.ngram_kernels import (
    count_prefixes,
    pack_keys,
    prefix_counts,
    radix_sort,
    run_length,
    whole_windows,
)
from kexue_cli.tasks.minent.ngram_runs import Run, RunStore
from kexue_cli.tasks.minent.symbols import Block, Chunks, SymbolTable, blocks, survey

FIRST_SYMBOL = {"open": 1, "kenlm": 3}
RULES = tuple(FIRST_SYMBOL)
Advance = Callable[[int], None]
CountedRun = tuple[Run, tuple[int, int]]  # with what `Windows.longest` says of it


@dataclass(frozen=True)
class NgramCounts:
    """Counts of the windows of `order` symbols; every lower order is a sum over prefixes."""

    order: int
    rule: str
    table: SymbolTable
    records: Run

    def of_order(self, m: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Keys of `m` symbols (distinct,) ascending and their counts (distinct,)."""
        bits = self.table.bits
        drop = (self.order - m) * bits
        keys, counts = np.asarray(self.records.keys), np.asarray(self.records.counts)
        room = count_prefixes(keys, drop, bits)
        prefixes, totals = np.empty(room, np.uint64), np.empty(room, np.uint64)
        prefix_counts(keys, counts, drop, bits, prefixes, totals)
        return prefixes, totals

    def as_dict(self, m: int) -> dict[str, int]:
        """The m-grams as text, for small corpora; marks are left out of the text."""
        keys, counts = self.of_order(m)
        return {self.table.spell(int(k), m): int(c) for k, c in zip(keys, counts, strict=True)}

    def as_merged(self) -> MergedWindows:
        """The records as `merged_windows` gives them."""
        windows = Windows(self.table, self.order, self.rule)
        records = Run(np.asarray(self.records.keys), np.asarray(self.records.counts))
        return MergedWindows(windows, windows.longest(records)[1], iter([records]))

    def save(self, folder: Path) -> None:
        """Write the counts as a folder (see docs/minent_counts.md); an old one is replaced."""
        with ngram_store.new_folder(folder) as partial:
            length = ngram_store.write_records(partial, iter([self.records]))
            ngram_store.write_header(
                partial, Windows(self.table, self.order, self.rule).header(length)
            )


def load(folder: Path) -> NgramCounts:
    """Counts written by `save` or `count_ngrams(folder=…)`, mapped from disk."""
    head, records = ngram_store.read_folder(folder)
    table = SymbolTable(np.array(head["code_points"], np.uint32), head["first_symbol"])
    return NgramCounts(head["order"], head["rule"], table, records)


@dataclass(frozen=True)
class Windows:
    """What is counted: windows of `order` symbols of a table under a boundary rule."""

    table: SymbolTable
    order: int
    rule: str

    def blocks(self, corpus: Chunks) -> Iterator[Block]:
        """The corpus as a stream of symbols."""
        return blocks(corpus, self.table, self.order, padded=self.rule == "kenlm")

    def count(self, parts: list[Block], space: NDArray[np.uint64]) -> Run:
        """The distinct windows of some blocks, sorted, with their counts (uint32).

        `space` (2, at least the symbols owned) is overwritten.
        """
        bits, whole = self.table.bits, self.rule == "kenlm"
        keys, spare = space
        n = 0
        for part in parts:
            n += pack_keys(part.symbols, part.owned, self.order, bits, whole, keys[n:])
        ordered = radix_sort(keys[:n], spare[:n], self.order * bits)
        free = keys if np.may_share_memory(ordered, spare) else spare
        counts = free.view(np.uint32)[:n]
        distinct = run_length(ordered, counts)
        return Run(ordered[:distinct].copy(), counts[:distinct].copy())

    def longest(self, run: Run) -> tuple[int, int]:
        """The largest order of which the run holds an n-gram, and how many of full order."""
        return whole_windows(run.keys, run.counts, self.order, self.table.bits)

    def header(self, records: int) -> dict[str, object]:
        """What counts.json says."""
        return {
            "order": self.order,
            "bits": self.table.bits,
            "first_symbol": self.table.first,
            "rule": self.rule,
            "records": records,
            "code_points": self.table.code_points.tolist(),
        }


def count_ngrams(
    corpus: Chunks,
    order: int,
    *,
    rule: str = "open",
    memory_mib: int = 1024,
    workers: int | None = None,
    folder: Path | None = None,
    scratch: Path | None = None,
    advance: Advance = lambda symbols: None,
) -> NgramCounts:
    """Count every n-gram of orders 1 … `order` in the free pieces of a corpus.

    `memory_mib` bounds the whole process. With `folder` the counts are written there and mapped;
    without it they are returned in memory. Runs that do not fit go to a temporary folder under
    `scratch`. `advance` is told how many symbols were taken in; it may raise to stop.

    Raises UserError where no piece has `order` characters, or the key does not fit 64 bits;
    ConfigError where the memory is too little, or more than there is.
    """
    check_memory(memory_mib)
    with merged_windows(
        corpus, order, rule, memory_mib=memory_mib, workers=workers, scratch=scratch,
        advance=advance,
    ) as merged:  # fmt: skip
        return collect(merged.windows, merged.parts, folder)


@dataclass(frozen=True)
class MergedWindows:
    """The records of all windows of a corpus, in key order, part by part, to be taken once.

    whole  how many windows have the full order
    """

    windows: Windows
    whole: int
    parts: Iterator[Run]


@contextmanager
def merged_windows(
    corpus: Chunks,
    order: int,
    rule: str = "open",
    *,
    memory_mib: int = 1024,
    workers: int | None = None,
    scratch: Path | None = None,
    advance: Advance = lambda symbols: None,
) -> Iterator[MergedWindows]:
    """As `count_ngrams`, but the records are not kept, and the memory is not checked."""
    if order < 1:
        raise ConfigError("model.order", f"expected at least 1, found {order}")
    table, characters = survey(corpus, FIRST_SYMBOL[rule])
    table.check_order(order)
    windows = Windows(table, order, rule)
    plan = CountPlan.within(memory_mib, workers, characters)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(plan.workers))
        store = stack.enter_context(RunStore(plan.memory_bytes, scratch))
        whole = count_runs(windows, corpus, plan, pool, store, advance)
        buffer = plan.buffer_records(len(store.runs))
        parts = ngram_store.merged(store.runs, plan.merge_records, buffer, pool, plan.workers)
        yield MergedWindows(windows, whole, parts)


def count_runs(
    windows: Windows,
    corpus: Chunks,
    plan: CountPlan,
    pool: Executor,
    store: RunStore,
    advance: Advance,
) -> int:
    """Count the corpus job by job, a sorted run each; returns how many windows are whole.

    Raises UserError where no piece has `order` characters.
    """
    longest = whole = 0
    count = partial(_count_in_turn, windows, _workspaces(plan.workers))
    jobs = jobs_of(windows.blocks(corpus), plan.job_symbols, advance)
    for run, (length, number) in _in_order(count, jobs, pool, plan.workers):
        longest, whole = max(longest, length), whole + number
        store.add(run)
    check_longest(windows, longest, corpus)
    return whole


def _workspaces(workers: int) -> SimpleQueue[NDArray[np.uint64]]:
    """Room to sort in, one for each worker, used again and again: freed memory lingers."""
    queue: SimpleQueue[NDArray[np.uint64]] = SimpleQueue()
    for _ in range(workers):
        queue.put(np.empty((2, 0), np.uint64))
    return queue


def _count_in_turn(
    windows: Windows, workspaces: SimpleQueue[NDArray[np.uint64]], parts: list[Block]
) -> CountedRun:
    space = workspaces.get()
    owned = sum(part.owned for part in parts)
    if owned > space.shape[1]:
        space = np.empty((2, owned + owned // 16), np.uint64)
    run = windows.count(parts, space)
    workspaces.put(space)
    return run, windows.longest(run)


def check_longest(windows: Windows, longest: int, corpus: Chunks) -> None:
    """Raise UserError where the longest n-gram there is falls short of the order, or is none."""
    if longest == 0 and isinstance(corpus, Corpus):
        raise nothing_to_search(corpus)
    if windows.rule == "open" and longest < windows.order:
        raise order_too_large(windows.order, longest)


def order_too_large(order: int, longest: int) -> UserError:
    """The error for a text whose longest piece falls short of the order."""
    return UserError(
        f"model.order={order} is larger than the longest piece of text ({longest} "
        "characters between line ends and punctuation); choose a smaller order"
    )


def jobs_of(stream: Iterator[Block], job_symbols: int, advance: Advance) -> Iterator[list[Block]]:
    """Blocks in groups of about `job_symbols`."""
    parts: list[Block] = []
    held = 0
    for block in stream:
        parts.append(block)
        held += block.owned
        advance(block.owned)
        if held >= job_symbols:
            yield parts
            parts, held = [], 0
    if held:
        yield parts


def _in_order(
    work: Callable[[list[Block]], CountedRun],
    jobs: Iterator[list[Block]],
    pool: Executor,
    ahead: int,
) -> Iterator[CountedRun]:
    """Results of the jobs in their order, `ahead` of them at work at a time."""
    waiting: deque[Future[CountedRun]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        del job
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def collect(windows: Windows, parts: Iterator[Run], folder: Path | None) -> NgramCounts:
    """Put merged parts together: in memory, or as a counts folder that is then mapped."""
    if folder is None:
        kept = list(parts)
        keys = np.concatenate([part.keys for part in kept])
        counts = np.concatenate([part.counts.astype(np.uint64, copy=False) for part in kept])
        return NgramCounts(windows.order, windows.rule, windows.table, Run(keys, counts))
    with ngram_store.new_folder(folder) as partial:
        length = ngram_store.write_records(partial, parts)
        ngram_store.write_header(partial, windows.header(length))
    return load(folder)
