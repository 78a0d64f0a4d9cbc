"""Which rows make up batch number `step`: a function of the seed and the step alone.

So a run that goes on after a stop draws the same batches, and the processes of a data-parallel run
agree on the whole batch and each take their part of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError

Rows = NDArray[np.int64]


class FixedCounts:
    """A fixed number of rows of each class in every batch, drawn with replacement.

    Args:
        labels: (n,) class of each row.
        counts: (classes,) rows of each class in a batch.
        seed: of all batches.
    """

    def __init__(self, labels: Rows, counts: Sequence[int], seed: int) -> None:
        self.rows = [np.flatnonzero(labels == k) for k in range(len(counts))]
        self.counts = list(counts)
        self.seed = seed
        self.batch_size = sum(self.counts)

    def __call__(self, step: int) -> Rows:
        """Rows of the batch, (batch_size,), shuffled so that every slice is mixed."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [rng.choice(rows, n) for rows, n in zip(self.rows, self.counts, strict=True) if n]
        return rng.permutation(np.concatenate(drawn))


class Balanced(FixedCounts):
    """All classes equally often; what does not divide evenly goes round from step to step."""

    def __init__(self, labels: Rows, n_classes: int, batch_size: int, seed: int) -> None:
        super().__init__(labels, [batch_size // n_classes] * n_classes, seed)
        self.batch_size = batch_size

    def __call__(self, step: int) -> Rows:
        """Rows of the batch, (batch_size,)."""
        n_classes = len(self.counts)
        extra = self.batch_size % n_classes
        counts = [self.batch_size // n_classes] * n_classes
        for i in range(extra):
            counts[(step * extra + i) % n_classes] += 1
        self.counts = counts
        return super().__call__(step)


class Natural:
    """Every row once in each pass, in an order that is new in each pass; no batch is short."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed

    def __call__(self, step: int) -> Rows:
        """Rows of the batch, (batch_size,); it may reach into the next pass."""
        place = step * self.batch_size
        pieces: list[Rows] = []
        while (missing := self.batch_size - sum(map(len, pieces))) > 0:
            number, offset = divmod(place, self.n_rows)
            piece = self._pass(number)[offset : offset + missing]
            pieces.append(piece)
            place += len(piece)
        return np.concatenate(pieces)

    def _pass(self, number: int) -> Rows:
        return np.random.default_rng([self.seed, number]).permutation(self.n_rows)


Sampler = FixedCounts | Balanced | Natural


def make_sampler(
    kind: str,
    labels: Rows,
    class_names: Sequence[str],
    class_shares: Sequence[float],
    batch_size: int,
    seed: int,
) -> Sampler:
    """The sampler `kind` ("fixed", "balanced" or "natural") for these labels.

    Raises:
        ConfigError: not one share for each class.
        UserError: a class has no training row to draw.
    """
    if kind == "natural":
        return Natural(len(labels), batch_size, seed)
    empty = [name for k, name in enumerate(class_names) if not np.any(labels == k)]
    if empty:
        raise UserError(
            f"no training spectrum is of class {', '.join(empty)}: fixed or balanced batches "
            "cannot be drawn. Use task.sampling=natural, or another split (data.valid_fraction)"
        )
    if kind == "balanced":
        return Balanced(labels, len(class_names), batch_size, seed)
    if len(class_shares) != len(class_names):
        raise ConfigError(
            "task.class_shares",
            f"has {len(class_shares)} numbers; the classes are {', '.join(class_names)}. "
            "Give one for each, in this order, or use task.sampling=natural or balanced",
        )
    return FixedCounts(labels, counts_of_batch(batch_size, class_shares), seed)


def counts_of_batch(batch_size: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `shares` that add up to `batch_size` (largest remainder)."""
    exact = batch_size * np.asarray(shares, dtype=float) / sum(shares)
    counts = np.floor(exact + 1e-9).astype(int)
    largest = np.argsort(-(exact - counts), kind="stable")[: batch_size - counts.sum()]
    counts[largest] += 1
    return [int(count) for count in counts]
