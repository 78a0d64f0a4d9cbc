"""Batches and losses that are the same for one process and for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from kexue_cli.run.ranks import Ranks
from kexue_cli.tasks.lamost.augment import Augmentation
from kexue_cli.tasks.lamost.layers import SpectrumClassifier
from kexue_cli.tasks.lamost.losses import cross_entropy_sum, minus_log_soft_f1, soft_f1_sums
from kexue_cli.tasks.lamost.sampling import Rows, Sampler
from kexue_cli.train.stage import Loss


@dataclass
class Batch:
    """This process's part of a batch: flux (n, length), labels (n,), dropout mask (n, …)."""

    flux: Tensor
    labels: Tensor
    kept: Tensor


@dataclass
class Batches:
    """Batch number `step` of a stage, on the device.

    Rows, augmentation and dropout mask of the whole batch follow from (seed, step); each process
    takes its share of them.
    """

    read: Callable[[Rows], NDArray[np.float32]]
    labels: Rows
    sampler: Sampler
    augmentation: Augmentation | None
    model: SpectrumClassifier
    seed: int
    ranks: Ranks
    device: torch.device

    def __call__(self, first_step: int) -> Iterator[Batch]:
        """Batches from `first_step` on, without end."""
        step = first_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """This process's share of batch `step`."""
        rows = self.sampler(step)
        generator = torch.Generator().manual_seed(mixed(self.seed, step))
        kept = self.model.draw_mask(len(rows), generator)
        share = self.ranks.slice(len(rows))
        if self.augmentation is None:
            flux = torch.from_numpy(self.read(rows[share]))
        else:  # all rows, so that everyone draws the same random numbers
            flux = self.augmentation(torch.from_numpy(self.read(rows)), generator)[share]
        labels = torch.from_numpy(self.labels[rows[share]])
        return Batch(flux.to(self.device), labels.to(self.device), kept[share].to(self.device))


def mixed(seed: int, step: int) -> int:
    """One seed out of two numbers; neighbours have nothing in common."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


class SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over all processes; the gradient of each goes to its own part.

    Every process computes the same function of the sum, and gradients of the weights are added
    over processes later: so the gradient passes through unchanged.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """The sum of every process's `part`."""
        total = part.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of this process's part."""
        return gradient


@dataclass
class CrossEntropy:
    """Cross-entropy for the training loop."""

    label_smoothing: float
    class_weights: Tensor | None

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Summed over this process's part of the batch."""
        logits = model(batch.flux, batch.kept).float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        total, count = cross_entropy_sum(logits, batch.labels, self.label_smoothing, weights)
        return Loss(total, float(count), {})


@dataclass
class SoftF1:
    """Minus log of the soft macro-F1 of the whole batch, for the training loop."""

    ranks: Ranks

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """The loop divides summed gradients by the summed count, which suits a mean over items.

        This loss is one number for the whole batch: its gradient is scaled by the whole count, its
        value by this process's, and either division gives the loss itself.
        """
        n = float(len(batch.labels))
        sums = soft_f1_sums(model(batch.flux, batch.kept).float(), batch.labels)
        if self.ranks.size == 1:
            return Loss(n * minus_log_soft_f1(sums), n)
        sums = SumOverRanks.apply(sums)
        loss = minus_log_soft_f1(sums)
        n_all = float(self.ranks.all_reduce_(torch.tensor(n, device=loss.device)))
        return Loss(n_all * loss - ((n_all - n) * loss).detach(), n)
