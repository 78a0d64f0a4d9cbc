"""Means of losses over the steps since they were last logged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from kexue_cli.run.ranks import Ranks
from kexue_cli.train.stage import Loss


@dataclass
class RunningMeans:
    """Sums stay on their device until `take`, so that a step does not wait for the GPU."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    count: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)

    def add(self, losses: list[Loss], count: float, ranks: Ranks) -> None:
        """Add one step's losses; `count` is the number of items on all ranks."""
        for loss in losses:
            terms = {"loss": loss.sum, **loss.logs}
            values = torch.stack([value.detach().double() for value in terms.values()])
            ranks.all_reduce_(values)
            for name, value in zip(terms, values, strict=True):
                self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += count

    def not_finite(self) -> list[str]:
        """Names of the terms whose sum is no longer a finite number."""
        return [name for name, total in self.sums.items() if not math.isfinite(total)]

    def take(self) -> dict[str, float]:
        """Means per item since the last call."""
        self.latest = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0.0
        return self.latest
