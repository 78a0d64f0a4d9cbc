"""Rows of a mixture's data, in memory or in a mapped file, and slices of them."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Mode = Literal["soft", "hard", "stochastic"]
Gaps = Literal["none", "hidden", "filled"]
SLICE_BYTES = 4_000_000  # of float64 rows: bounds the memory of the torch path and of a read


@dataclass
class Rows:
    """Data of a mixture.

    Attributes:
        values: (n, d) array or memory map of any real type, or scipy CSR counts.
        shift: (d,), taken off every row before anything is summed: the column means.
        weights: (n,) non-negative, or None.
        labels: (n,) int64, a known component or -1, or None.
        gaps: what NaN means: there are none, they are hidden like the component, or the column's
            `shift` stands in for them (for starts).
    """

    values: Any
    shift: np.ndarray
    weights: np.ndarray | None = None
    labels: np.ndarray | None = None
    gaps: Gaps = "none"

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def total_weight(self) -> float:
        """Sum of the row weights: the n of a log-likelihood."""
        return float(len(self) if self.weights is None else self.weights.sum())

    @property
    def rows_per_weight(self) -> float:
        """Rows of some weight over their total weight, at least 1 (see GaussianMixture)."""
        if self.weights is None:
            return 1.0
        return max(1.0, float((self.weights > 0).sum()) / self.total_weight)

    def part(self, start: int, stop: int) -> Rows:
        """Rows start .. stop-1; reads nothing yet from a memory map, unless gaps are filled."""
        weights = None if self.weights is None else self.weights[start:stop]
        labels = None if self.labels is None else self.labels[start:stop]
        values = self.values[start:stop]
        if self.gaps == "filled":
            values = np.where(np.isnan(values), self.shift, values)
        return Rows(values, self.shift, weights, labels, self.gaps)

    def centred(self) -> np.ndarray:
        """(n, d) float64 without `shift`: for parts, not for the whole of a large file."""
        return np.asarray(self.values, dtype=np.float64) - self.shift

    def slices(self, rows_per_slice: int | None = None) -> list[tuple[int, int]]:
        """(start, stop) of slices of about SLICE_BYTES; depends on the shape only."""
        size = rows_per_slice or max(128, SLICE_BYTES // (8 * max(1, self.values.shape[1])))
        return [(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def release_pages(values: Any) -> None:
    """Give back the memory of what has been read from a memory map; its file stays cached as far as
    the system likes.
    """
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
