"""Groups of cells: what is trained in one run, from a single model to a whole table.

A group is one batched `Vae` with one recipe; its cells differ in seed, beta or penalty weight.
Groups of a run see the same rows of the same minibatch and share nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kexue_cli.run.seeds import Seeds
from kexue_cli.tasks.vae.categorical import CategoricalLatent
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.objectives import objective, vae_or_iwae
from kexue_cli.tasks.vae.pixels import PixelView, Protocol
from kexue_cli.train.stage import Loss


@dataclass
class Recipe:
    """How a group is trained; `beta` is a number, or (cells, 1). `last_step`: training ends there.

    `iwae` (cells, 1) of truth values makes a table's column: IWAE where true, VAE with the same k
    where false.
    """

    objective: str = "elbo"
    samples: int = 1
    kl: str = "analytic"
    beta: float | Tensor = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    last_step: int | None = None
    iwae: Tensor | None = None

    def beta_at(self, step: int) -> float | Tensor:
        """Beta on its way up from 0."""
        if step >= self.warmup_steps:
            return self.beta
        return self.beta * ((step + 1) / self.warmup_steps)


@dataclass
class Temperature:
    """Gumbel-softmax: the distance to `end` is multiplied by `decay` each step."""

    start: float
    end: float
    decay: float

    def at(self, step: int) -> float:
        """Temperature of that step."""
        return self.end + (self.start - self.end) * self.decay**step


@dataclass
class Group:
    """One batched model, its recipe and pixels; `cells`: what tells each cell from the others."""

    model: Vae
    recipe: Recipe
    protocol: Protocol
    cells: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    temperature: Temperature | None = None

    def bound(
        self, x: Tensor, labels: Tensor | None, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(bound (cells, batch), sums to log) of one minibatch."""
        recipe = self.recipe
        if self.temperature is not None and isinstance(self.model.latent, CategoricalLatent):
            self.model.latent.temperature = self.temperature.at(step)
        beta = recipe.beta_at(step)
        if isinstance(beta, Tensor):
            beta = beta.to(x.device)
        if recipe.iwae is not None:
            terms = self.model(x, labels, recipe.samples)
            return vae_or_iwae(terms, recipe.iwae.to(x.device)), {}
        bound, terms = objective(
            self.model,
            x,
            labels,
            recipe.objective,
            recipe.samples,
            recipe.kl,
            beta,
            recipe.free_bits,
        )
        logs = {}
        if terms is not None:
            logs["reconstruction"] = -terms.log_likelihood.detach().mean(-1).sum()
            if terms.draw.kl is not None:
                logs["kl"] = terms.draw.kl.detach().sum()
        return bound, logs


@dataclass
class Batch:
    """Rows of the training split and the step (over all stages) they belong to."""

    rows: Tensor
    step: int


class Batches:
    """Minibatches of rows by step: epoch e is a permutation that depends on the seed and e alone.

    With `first_step` of its stage given, an iterator from any step on gives the same batches:
    exact resuming. On
    several ranks each takes its share of every batch.
    """

    def __init__(
        self,
        seeds: Seeds,
        rows: int,
        size: int,
        shuffle: bool,
        rank: int,
        ranks: int,
        device: torch.device,
    ) -> None:
        self.seeds, self.rows, self.size, self.shuffle = seeds, rows, min(size, rows), shuffle
        self.rank, self.ranks, self.device = rank, ranks, device

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; the last batch is short where the size does not divide the rows."""
        return -(-self.rows // self.size)

    def starting(self, step: int) -> Iterator[Batch]:
        """Batches from that step on, without end."""
        while True:
            epoch, within = divmod(step, self.per_epoch)
            order = self._order(epoch)
            for number in range(within, self.per_epoch):
                rows = order[number * self.size : (number + 1) * self.size]
                yield Batch(rows[self.rank :: self.ranks], step)
                step += 1

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.rows, device=self.device)
        order: np.ndarray = self.seeds.numpy(f"order of epoch {epoch}").permutation(self.rows)
        return torch.from_numpy(order).to(self.device)


class Workbench(nn.Module):
    """All groups of a run as one module, and the training data they see."""

    def __init__(
        self, groups: list[Group], views: dict[str, PixelView], labels: Tensor | None
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(group.model for group in groups)
        self.groups, self.views, self.labels = groups, views, labels

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Minus the bounds, summed over batch and cells: every cell's gradient is its own."""
        count = len(batch.rows)
        seen = {view: pixels.batch(batch.rows) for view, pixels in self.views.items()}
        labels = None if self.labels is None else self.labels[:, batch.rows]
        total = torch.zeros((), device=batch.rows.device)
        logs: dict[str, Tensor] = {}
        for group in self.groups:
            last = group.recipe.last_step
            if last is not None and batch.step >= last:
                continue
            bound, more = group.bound(seen[group.protocol.view], labels, batch.step)
            total = total - bound.sum()
            if len(self.groups) == 1:
                logs = {name: value / len(group.cells) for name, value in more.items()}
            if self.cell_count > 1 and not bool(torch.isfinite(total)):
                logs |= _losses_of_cells(group, bound)
        return Loss(total, float(count), {"loss": total.detach() / self.cell_count, **logs})

    @property
    def cell_count(self) -> int:
        """Models trained side by side."""
        return sum(len(group.cells) for group in self.groups)


def _losses_of_cells(group: Group, bound: Tensor) -> dict[str, Tensor]:
    """Named by what tells the cells apart, so that the message about a NaN says whose it is."""
    names = [", ".join(f"{key} {value}" for key, value in cell.items()) for cell in group.cells]
    return {f"loss of {name}": -row.detach().sum() for name, row in zip(names, bound, strict=True)}


def one_hot(labels: np.ndarray, classes: int, device: torch.device) -> Tensor:
    """(1, n, classes) float32."""
    return functional.one_hot(torch.from_numpy(labels), classes).float().unsqueeze(0).to(device)
