"""Counting as map and merge on Ray: workers sort blocks of symbols, then merge ranges of keys.

This process reads the text and hands out jobs; the runs stay in Ray's object store, which spills to
disk by itself. The counts are the same bits as those of `count_ngrams`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require
from kexue_cli.tasks.minent.count_plan import BYTES_PER_SYMBOL, LEAST_JOB, LEAST_MERGE
from kexue_cli.tasks.minent.memory import MIB
from kexue_cli.tasks.minent.ngram_runs import RECORD_BYTES, Run, sample_step
from kexue_cli.tasks.minent.ngram_store import add_runs, merge_ranges
from kexue_cli.tasks.minent.ngrams import (
    FIRST_SYMBOL,
    Advance,
    NgramCounts,
    Windows,
    check_longest,
    collect,
    jobs_of,
)
from kexue_cli.tasks.minent.symbols import Block, Chunks, survey

JOBS_AHEAD = 2  # per worker, so that none waits for the reader


@dataclass(frozen=True)
class Summary:
    """What the driver knows of a run that lies elsewhere."""

    length: int
    fence: NDArray[np.uint64]
    longest: int

    def __len__(self) -> int:
        return self.length

    def sample(self, step: int) -> NDArray[np.uint64]:
        """Every step-th key; kept for the one step that `merge_ranges` asks for."""
        return self.fence


def _map(windows: Windows, parts: list[Block]) -> tuple[Run, Summary]:
    space = np.empty((2, sum(part.owned for part in parts)), np.uint64)
    run = windows.count(parts, space)
    fence = run.sample(sample_step(run)).copy()
    return run, Summary(len(run), fence, windows.longest(run)[0])


def _merge(low: int, high: int | None, *runs: Run) -> Run:
    return add_runs([run.between(low, high) for run in runs])


def count_ngrams_with_ray(
    corpus: Chunks,
    order: int,
    rule: str = "open",
    memory_mib: int = 1024,
    advance: Advance = lambda symbols: None,
) -> NgramCounts:
    """As `count_ngrams`, on the running Ray cluster, or on a local one that is started for it.

    `memory_mib` bounds one job of one worker. Raises what `count_ngrams` raises.
    """
    ray = require("ray", extra="ray")
    table, _ = survey(corpus, FIRST_SYMBOL[rule])
    table.check_order(order)
    windows = Windows(table, order, rule)
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        job_symbols = max(memory_mib * MIB // BYTES_PER_SYMBOL, LEAST_JOB)
        runs, summaries = _map_all(ray, windows, corpus, job_symbols, advance)
        check_longest(windows, max((s.longest for s in summaries), default=0), corpus)
        ranges = merge_ranges(summaries, max(memory_mib * MIB // (3 * RECORD_BYTES), LEAST_MERGE))
        merge = ray.remote(_merge)
        parts = [merge.remote(low, high, *runs) for low, high in ranges]
        return collect(windows, (ray.get(part) for part in parts), None)
    finally:
        if started_here:
            ray.shutdown()


def _map_all(
    ray: Any, windows: Windows, corpus: Chunks, job_symbols: int, advance: Advance
) -> tuple[list[Any], list[Summary]]:
    """Hand out all jobs, a few ahead of the workers; references to the runs, and what they hold."""
    count = ray.remote(_map).options(num_returns=2)
    ahead = JOBS_AHEAD * int(ray.cluster_resources().get("CPU", 1))
    runs, summaries = [], []
    for parts in jobs_of(windows.blocks(corpus), job_symbols, advance):
        run, summary = count.remote(windows, parts)
        runs.append(run)
        summaries.append(summary)
        if len(summaries) >= ahead:
            ray.wait([summaries[-ahead]])
    return runs, ray.get(summaries)
