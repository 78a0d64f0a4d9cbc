"""One pass over the rows: natural parameters in, sufficient statistics out.

Rows are read in slices (memory-mapped files never whole), each slice goes through the compiled
kernel or, on a GPU and for many components, through torch; slices are added up in a fixed order,
so that the number of threads changes no bit. Responsibilities live only as long as their block.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kexue_cli.tasks.em.natural import Natural, Statistics, zeros_like
from kexue_cli.tasks.em.rows import Mode, Rows, release_pages

KERNEL_COMPONENTS = 192  # above, whole-slice matrix products beat the kernel's tiles
GAP_VALUES = 8_000_000  # numbers that the pass over rows with gaps holds at once
KERNEL_COLUMNS = 90  # above, the packed features of a block no longer fit a second-level cache


@dataclass
class Engine:
    """Where and how passes are computed.

    Attributes:
        device: a torch device name; the CPU goes through the compiled kernel where that is faster.
        threads: slices computed at once on the CPU.
        dtype: arithmetic of the torch path; sums between slices are always float64.
        rank, ranks: this process takes every ranks-th slice and sums are added over processes.
        all_reduce: adds a float64 vector over the processes, in place.
        poll: called between slices; may raise to stop the run.
    """

    device: str = "cpu"
    threads: int = 1
    dtype: Literal["float64", "float32"] = "float64"
    backend: Literal["auto", "kernel", "torch"] = "auto"
    rank: int = 0
    ranks: int = 1
    all_reduce: Callable[[np.ndarray], None] | None = None
    poll: Callable[[], None] = lambda: None
    _pool: ThreadPoolExecutor | None = field(default=None, repr=False)
    _blas: Any = field(default=None, repr=False)

    def expectation(
        self,
        rows: Rows,
        natural: Natural,
        mode: Mode = "soft",
        noise_seed: tuple[int, ...] = (0,),
        slices: list[tuple[int, int]] | None = None,
    ) -> Statistics:
        """E-step over all rows and the sums of the M-step.

        Args:
            mode: soft responsibilities, hard (all to the likeliest component), or stochastic (all
                to one component drawn from the posterior, by random numbers of `noise_seed`).
            slices: only these; all by default.
        """
        step = self._step(rows, natural)
        mine = self.share(_slices(rows, natural) if slices is None else slices)

        def one(numbered: tuple[int, tuple[int, int]]) -> Statistics:
            number, (start, stop) = numbered
            part = rows.part(start, stop)
            noise = np.empty((len(part), 0))
            if mode == "stochastic":
                generator = np.random.default_rng((*noise_seed, number))
                noise = generator.random((len(part), len(natural.constant)))
            sums = step(part, mode, noise)
            release_pages(rows.values)
            return sums

        total = zeros_like(natural)
        for sums in self.in_order(one, mine):
            total = total + sums
            self.poll()
        return self._summed_over_processes(total)

    def float64_device(self) -> str:
        """This device, or the CPU where this one has no float64."""
        return "cpu" if self.device.startswith("mps") else self.device

    def one_blas_thread(self) -> contextlib.AbstractContextManager[Any]:
        """Products inside a slice stay on its thread."""
        if importlib.util.find_spec("threadpoolctl") is None:
            return contextlib.nullcontext()
        if self._blas is None:
            from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

            self._blas = ThreadpoolController()
        limited: contextlib.AbstractContextManager[Any] = self._blas.limit(
            limits=1, user_api="blas"
        )
        return limited

    def share(self, slices: list[tuple[int, int]]) -> list[tuple[int, tuple[int, int]]]:
        """The slices of this process, numbered as in the whole."""
        return list(enumerate(slices))[self.rank :: self.ranks]

    def in_order(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of items; on several threads never more than 2 per thread wait."""
        if self.threads == 1:
            yield from map(work, items)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads)
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(self._pool.submit(work, item))
            if len(waiting) > 2 * self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _uses_kernel(self, natural: Natural) -> bool:
        if self.backend != "auto":
            return self.backend == "kernel"
        restarts, components, columns = natural.linear.shape
        whole = natural.quadratic is not None and natural.quadratic.ndim == 4
        return (
            self.device == "cpu"
            and self.dtype == "float64"
            and restarts * components <= KERNEL_COMPONENTS
            and columns <= (KERNEL_COLUMNS if whole else 40 * KERNEL_COLUMNS)
            and importlib.util.find_spec("numba") is not None
        )

    def _step(self, rows: Rows, natural: Natural) -> Callable[[Rows, Mode, np.ndarray], Statistics]:
        if not isinstance(rows.values, np.ndarray):
            from kexue_cli.tasks.em.sparse_pass import sparse_step

            return sparse_step(natural)
        if rows.gaps == "hidden":
            from kexue_cli.tasks.em.missing import gaps_step

            return gaps_step(natural)
        if self._uses_kernel(natural):
            from kexue_cli.tasks.em.kernel_pass import kernel_step

            return kernel_step(natural)
        from kexue_cli.tasks.em.torch_pass import torch_step

        return torch_step(natural, self.device, self.dtype)

    def _summed_over_processes(self, total: Statistics) -> Statistics:
        if self.all_reduce is None:
            return total
        arrays = [total.count, total.first, total.log_likelihood, total.entropy]
        if total.second is not None:
            arrays.append(total.second)
        parts = self.summed(arrays)
        second = parts[4] if total.second is not None else None
        return Statistics(parts[0], parts[1], second, parts[2], parts[3])

    def summed(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The sums of these arrays over all processes."""
        if self.all_reduce is None:
            return arrays
        flat = np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
        self.all_reduce(flat)
        ends = np.cumsum([array.size for array in arrays])
        pieces = np.split(flat, ends[:-1])
        return [piece.reshape(array.shape) for piece, array in zip(pieces, arrays, strict=True)]


def _slices(rows: Rows, natural: Natural) -> list[tuple[int, int]]:
    """Of rows with gaps smaller ones: every component fills them in its own way."""
    if rows.gaps != "hidden":
        return rows.slices()
    return rows.slices(max(128, GAP_VALUES // natural.linear.size))
