"""What a task gives the training loop: stages, batches and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from kexue_cli.config import OptimConfig
from kexue_cli.train.optim import make_optimizers


@dataclass
class Loss:
    """The loss of one batch, as a sum and the number of items it is summed over.

    Sums and counts, not means, make accumulation, short last batches and data-parallel runs exact.

    Attributes:
        sum: differentiable scalar.
        count: items (spectra, images, tokens) in the sum.
        logs: further scalars to log, summed over the same items.
    """

    sum: torch.Tensor
    count: float
    logs: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Stage:
    """One part of a training with its own loss and optimiser.

    Attributes:
        steps: optimiser steps.
        loss: (model, batch) → Loss; randomness in it comes from torch's global generator.
        batches: first micro-batch → iterator from there on; the same number always gives the same
            batch, which is what makes resuming exact. On several ranks each gets its own share.
        evaluate_every: optimiser steps between evaluations; one more comes at the end.
        from_best: begin with the best weights of the stages before instead of the last ones.
        patience: evaluations without improvement after which the stage ends early.
        unit: what Loss.count counts, for the rate on the progress bar.
        make_optimizers: (model, optim) → fresh optimisers.
    """

    name: str
    steps: int
    loss: Callable[[nn.Module, Any], Loss]
    batches: Callable[[int], Iterator[Any]]
    evaluate_every: int
    optim: OptimConfig
    from_best: bool = False
    patience: int | None = None
    log_every: int = 10
    unit: str = "items"
    make_optimizers: Callable[[nn.Module, OptimConfig], list[torch.optim.Optimizer]] = (
        make_optimizers
    )
