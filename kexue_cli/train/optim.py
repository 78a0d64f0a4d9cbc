"""Optimisers and learning-rate schedules from OptimConfig."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kexue_cli.config import OptimConfig, Schedule
from kexue_cli.errors import ConfigError
from kexue_cli.train.keras_adam import KerasAdam
from kexue_cli.train.keras_radam import KerasRAdam
from kexue_cli.train.native_adam import NativeAdam

NAMES = (
    "adam",
    "keras_adam",
    "adamw",
    "sgd",
    "radam",
    "keras_radam",
    "nadam",
    "adafactor",
    "muon",
)


def make_optimizers(model: nn.Module, optim: OptimConfig) -> list[torch.optim.Optimizer]:
    """The optimisers of a stage: one, or two where Muon takes the matrices and AdamW the rest.

    Raises:
        ConfigError: `optim.name` is not one of `NAMES`.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if optim.name != "muon":
        return [_make_one(parameters, optim)]
    matrices = [p for p in parameters if p.ndim == 2]
    rest = [p for p in parameters if p.ndim != 2]
    muon = torch.optim.Muon(
        matrices, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay
    )
    return [muon, *([torch.optim.AdamW(rest, **_adam_arguments(optim))] if rest else [])]


def _make_one(parameters: Iterable[nn.Parameter], optim: OptimConfig) -> torch.optim.Optimizer:
    adam = _adam_arguments(optim)
    match optim.name:
        case "adam":
            return NativeAdam(parameters, **adam, fused=True)
        case "keras_adam":
            return KerasAdam(parameters, **adam, fused=True)
        case "adamw":
            return NativeAdam(parameters, **adam, fused=True, decoupled_weight_decay=True)
        case "radam":
            return torch.optim.RAdam(parameters, **adam)
        case "keras_radam":
            return KerasRAdam(parameters, **adam)
        case "nadam":
            return torch.optim.NAdam(parameters, **adam)
        case "adafactor":
            return torch.optim.Adafactor(parameters, lr=optim.lr, weight_decay=optim.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=optim.lr,
                weight_decay=optim.weight_decay,
                momentum=optim.momentum,
            )
    raise ConfigError("optim.name", f"expected one of {', '.join(NAMES)}, found {optim.name!r}")


def _adam_arguments(optim: OptimConfig) -> dict[str, Any]:
    return {
        "lr": optim.lr,
        "betas": tuple(optim.betas),
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
    }


def lr_factor(optim: OptimConfig, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at optimiser step `step` (from 0) of `steps`.

    Linear warm-up, then constant, or down to `final_lr_fraction` on a line or a half cosine.
    """
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps)
    match optim.schedule:
        case Schedule.linear:
            share = 1 - progress
        case Schedule.cosine:
            share = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        case _:
            return 1.0
    return optim.final_lr_fraction + (1 - optim.final_lr_fraction) * share


def set_lr(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to its own base rate times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            base = group.setdefault("base_lr", group["lr"])
            group["lr"] = base * factor
