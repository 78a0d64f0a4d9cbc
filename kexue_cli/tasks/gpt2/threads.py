"""Jobs at the same time on a few threads that wait for work, and for nobody else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise


def shares(rows: int, parts: int) -> list[tuple[int, int]]:
    """Contiguous shares (begin, end) of rows, as equal as can be and none of them empty."""
    parts = max(1, min(rows, parts))
    return list(pairwise(rows * i // parts for i in range(parts + 1)))


def together(jobs: Sequence[Callable[[], object]]) -> None:
    """Run all jobs, the first one on this thread; back when all are done."""
    others = [_pool().submit(job) for job in jobs[1:]]
    jobs[0]()
    for other in others:
        other.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="gpt2")
