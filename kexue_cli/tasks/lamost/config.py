"""Options of task=lamost: the training schedule, the losses, the networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kexue_cli.config import ModelConfig, TaskConfig, check_ranges
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.lamost.config_data import DATA_SCHEMAS, check_data
from kexue_cli.tasks.lamost.config_ranges import (
    MODEL_RANGES,
    TASK_RANGES,
    check_filters,
    check_length,
    check_lists,
)


class Sampling(Enum):
    """How the rows of a training batch are chosen."""

    auto = "auto"  # fixed for the contest's four classes or if shares are given, else natural
    fixed = "fixed"  # task.class_shares of each batch, drawn with replacement
    balanced = "balanced"  # every class equally often, with replacement
    natural = "natural"  # every row once in each pass


class Engine(Enum):
    """What computes the residual blocks on the CPU."""

    auto = "auto"  # native where it can be had
    native = "native"  # this package's AVX-512 kernels
    plain = "plain"  # torch's own operations


@dataclass
class StageConfig:
    """One stage of the training."""

    steps: int = 0  # optimiser steps; 0 leaves the stage out
    lr: float | None = None  # null: optim.lr
    batch_size: int | None = None  # null: task.batch_size
    patience: int | None = None  # evaluations without gain after which the stage ends


@dataclass
class AugmentConfig:
    """Strength of random changes to training spectra; 0 is off."""

    noise: float = 0.0  # Gaussian noise, in standard deviations of the spectrum
    scale: float = 0.0  # flux times exp(u), |u| up to this
    shift: int = 0  # points to either side
    stretch: float = 0.0  # axis times exp(u), |u| up to this
    flip: float = 0.0  # probability of a change of sign
    erase: float = 0.0  # largest share of the points replaced by the mean, in one piece


@dataclass
class LamostTask(TaskConfig):
    """Classification of spectra, scored by macro-F1; two stages of training as in the post."""

    name: str = "lamost"
    _target_: str = "kexue_cli.tasks.lamost.task.LamostTask"
    batch_size: int = 160
    sampling: Sampling = Sampling.auto
    class_shares: list[float] | None = None  # in the order of the classes; null: the post's four
    cross_entropy: StageConfig = field(default_factory=lambda: StageConfig(steps=250))
    soft_f1: StageConfig = field(default_factory=lambda: StageConfig(steps=50, lr=1e-4))
    evaluate_every: int = 50  # optimiser steps
    label_smoothing: float = 0.0  # of the cross-entropy
    class_weights: list[float] | None = None  # of the cross-entropy, in the order of the classes
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    official_classes: list[str] | None = None  # a challenge's F1 is the mean over these
    submission_header: bool = False


@dataclass
class Conv1dRes(ModelConfig):
    """The post's residual CNN: 748,324 parameters as it stands here."""

    name: str = "conv1d_res"
    task: str = "lamost"
    _target_: str = "kexue_cli.tasks.lamost.conv1d_res.Conv1dRes"
    filters: Any = 16  # of the first two of eight blocks, doubled every two; or a list, one a block
    dilations: list[int] = field(default_factory=lambda: [1, 2, 4])
    kernel_size: int = 3
    pair_sum: bool = True
    dropout: float = 0.5  # of whole positions
    hidden: int = 128
    engine: Engine = Engine.auto
    weights: str | None = None  # npz in Keras' layout to start from


@dataclass
class DenseNet1d(ModelConfig):
    """Densely connected 1-D network with links between its transitions."""

    name: str = "densenet1d"
    task: str = "lamost"
    _target_: str = "kexue_cli.tasks.lamost.densenet1d.DenseNet1d"
    stem: int = 24
    growth: int = 12
    layers: list[int] = field(default_factory=lambda: [3, 3, 3, 3, 3])
    kernel_size: int = 3
    multi_scale: bool = True
    dropout: float = 0.2


@dataclass
class Inception1d(ModelConfig):
    """InceptionTime's network."""

    name: str = "inception1d"
    task: str = "lamost"
    _target_: str = "kexue_cli.tasks.lamost.inception1d.Inception1d"
    depth: int = 6
    filters: int = 32
    bottleneck: int = 32
    kernel_sizes: list[int] = field(default_factory=lambda: [39, 19, 9])
    downsample: int = 1
    dropout: float = 0.0


SCHEMAS: dict[str, type] = {
    "task/lamost": LamostTask,
    "model/conv1d_res": Conv1dRes,
    "model/densenet1d": DenseNet1d,
    "model/inception1d": Inception1d,
    **DATA_SCHEMAS,
}


def check(cfg: Any) -> None:
    """Rules that the types cannot say.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    check_ranges(cfg, TASK_RANGES + MODEL_RANGES)
    check_data(cfg)
    check_lists(cfg)
    _check_task(cfg)
    _check_model(cfg.model)
    if (length := cfg.data.get("length")) is not None:  # else known once the file is read
        check_length(cfg, length)


def _check_task(cfg: Any) -> None:
    task = cfg.task
    if task.cross_entropy.steps + task.soft_f1.steps == 0:
        raise ConfigError("task.cross_entropy.steps", "both stages have 0 steps: nothing to train")
    for key in ("class_shares", "class_weights"):
        if task[key] is not None and sum(task[key]) == 0:
            raise ConfigError(f"task.{key}", f"one number above 0 is needed, found {task[key]}")
    if task.soft_f1.steps and cfg.optim.get("accumulate", 1) > 1:
        raise ConfigError(
            "optim.accumulate",
            "the soft F1 is of a whole batch and does not add up over parts of it: use "
            "optim.accumulate=1 (several processes are exact), or task.soft_f1.steps=0",
        )


def _check_model(model: Any) -> None:
    check_filters(model)
    if model.name == "inception1d" and any(size % 2 == 0 for size in model.kernel_sizes):
        raise ConfigError("model.kernel_sizes", f"odd sizes, found {list(model.kernel_sizes)}")
