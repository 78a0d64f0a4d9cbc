"""Configuration: schemas shared by all tasks, their registration with Hydra, and instantiation.

Defaults live once, in dataclasses; the YAML files under conf/ name one and hold differences.
Every task adds its own dataclasses in `tasks/<task>/config.py`: a dict `SCHEMAS` from
"group/option" to dataclass and, if it has rules across fields, a function `check(cfg)`, which
kexue_cli/check.py calls.
Nothing here imports torch.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Any, ClassVar

from omegaconf import MISSING, DictConfig, OmegaConf

from kexue_cli.errors import ConfigError
from kexue_cli.paths import PACKAGE

# ends of ranges, beside plain numbers
ABOVE_0 = sys.float_info.min
BELOW_1 = math.nextafter(1.0, 0.0)
FINITE = sys.float_info.max
Range = tuple[str, float, float]


class Mode(Enum):
    """What a run does."""

    train = "train"
    evaluate = "evaluate"
    predict = "predict"
    generate = "generate"


class Precision(Enum):
    """Number format of the heavy arithmetic; weights and sums stay in float32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Schedule(Enum):
    """How the learning rate goes over a stage, after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class TaskConfig:
    """What every task's dataclass has; `_target_` is the dotted path of its `Task` class."""

    _target_: str = MISSING
    name: str = MISSING


@dataclass
class ModelConfig:
    """What every model's dataclass has; `task` names the task it serves."""

    needs_training: ClassVar[bool] = True  # before mode=evaluate and predict
    _target_: str = MISSING
    name: str = MISSING
    task: str = MISSING


@dataclass
class DataConfig:
    """What every data set's dataclass has; `task` names the task it serves, or a kind of data.

    A kind serves every task whose `config.py` has it in `TAKES`.
    """

    name: str = MISSING
    task: str = MISSING


@dataclass
class OptimConfig:
    """Optimiser and schedule of the gradient tasks."""

    name: str = "adam"  # adam | keras_adam | adamw | sgd | radam | keras_radam | nadam | …
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    momentum: float = 0.9  # of sgd and muon
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    final_lr_fraction: float = 0.0  # of lr, where a falling schedule ends
    clip_norm: float | None = None
    accumulate: int = 1  # micro-batches per optimiser step
    ema_decay: float | None = None
    ema_debiased: bool = False  # the plain average divided by its weights' sum, as Keras 2.2.4


@dataclass
class NoOptim:
    """Tasks that fit without gradients have no optimiser settings."""


@dataclass
class DeviceConfig:
    """Where the run computes."""

    name: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    threads: int | None = None  # CPU threads of one operation; null: chosen and shown
    compile: bool = False  # torch.compile the model
    deterministic: bool = True  # same seed, same device, same versions: same bits


@dataclass
class LimitConfig:
    """Caps for trials; null means no cap."""

    steps: int | None = None  # optimiser steps of each stage, or iterations
    rows: int | None = None  # rows of every split


@dataclass
class RunConfig:
    """The top level of every run's configuration."""

    task: Any = None
    model: Any = None
    data: Any = None
    optim: Any = None
    device: Any = None
    mode: Mode = Mode.train
    seed: int = 0
    precision: Precision = Precision.auto
    checkpoint: str | None = None  # run directory or checkpoint file to start from
    prompt: str | None = None  # text to continue, @file of such lines, or - to ask for them
    question: str | None = None  # to be answered from `passages`, with task=dgcnn mode=predict
    passages: str | None = None  # file of passages, one to a line
    resume: str | None = None  # run directory to go on with
    output_dir: str = "outputs"
    run_dir: str | None = None  # this very directory, new or empty, instead of one below output_dir
    trackers: list[str] = field(default_factory=list)  # tensorboard | mlflow | wandb | trackio
    dry_run: bool = False  # say what would run and what it would cost, write nothing
    limit: LimitConfig = field(default_factory=LimitConfig)
    checkpoint_minutes: float = 10.0  # at most this much work is lost to a power cut
    profile: bool = False  # write a torch profiler trace of some steps into the run directory
    experiment: str | None = None  # set by conf/experiment/*.yaml
    expected: dict[str, Any] = field(default_factory=dict)  # published numbers, set by experiments


CORE_SCHEMAS: dict[str, type] = {
    "run": RunConfig,
    "optim/optim": OptimConfig,
    "optim/none": NoOptim,
    "device/device": DeviceConfig,
}


def task_config_modules() -> Iterator[ModuleType]:
    """Import every `kexue_cli/tasks/<room>/config.py`; none of them imports torch."""
    for path in sorted((PACKAGE / "tasks").glob("*/config.py")):
        yield importlib.import_module(f"kexue_cli.tasks.{path.parent.name}.config")


def register_schemas() -> None:
    """Tell Hydra every dataclass, as /schema/<group>/<option>; the YAML files refer to them."""
    from hydra.core.config_store import ConfigStore

    from kexue_cli.schema_node import SchemaNode

    schemas = dict(CORE_SCHEMAS)
    for module in task_config_modules():
        schemas.update(module.SCHEMAS)
    for path, schema in schemas.items():
        *groups, name = f"schema/{path}.yaml".split("/")
        folder = ConfigStore.instance().repo
        for group in groups:
            folder = folder.setdefault(group, {})
        folder[name] = SchemaNode(name, "/".join(groups), schema)


def build(node: DictConfig, config_path: str, *args: Any, **runtime: Any) -> Any:
    """Make the object that `node._target_` names, its other keys and `runtime` as arguments.

    The keys `name` and `task` describe the choice and are not passed.

    Raises:
        ConfigError: a target outside kexue_cli, one that does not exist, or arguments that do not
            fit its signature; `config_path` is named.
    """
    import inspect

    target = locate(str(node._target_), config_path)
    keywords = {str(k): v for k, v in node.items() if k not in ("_target_", "name", "task")}
    keywords.update(runtime)
    try:
        inspect.signature(target).bind(*args, **keywords)
    except TypeError as error:
        raise ConfigError(config_path, f"{node._target_} cannot be built: {error}") from error
    return target(*args, **keywords)


def locate(dotted: str, config_path: str) -> Any:
    """The object at a dotted path under `kexue_cli.`, imported now."""
    module_name, _, name = dotted.rpartition(".")
    if not dotted.startswith("kexue_cli."):
        raise ConfigError(f"{config_path}._target_", f"must lie under kexue_cli., found {dotted!r}")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in (module_name, None):
            raise
        raise ConfigError(f"{config_path}._target_", f"{dotted!r} does not exist") from error


def check_ranges(cfg: DictConfig, ranges: Iterable[Range]) -> None:
    """Hold values against a table of (dotted key, lowest, highest).

    What is null or not there is let through; NaN lies in no range.

    Raises:
        ConfigError: names the first key that is out of range.
    """
    for key, low, high in ranges:
        value = OmegaConf.select(cfg, key)
        if value is not None and not low <= value <= high:
            raise ConfigError(key, f"must be {_range_in_words(low, high)}, found {value}")


def check_list_ranges(cfg: DictConfig, ranges: Iterable[Range]) -> None:
    """`check_ranges` for every number of a list: keys become `model.hidden[0]` and so on.

    Raises:
        ConfigError: names the first number that is out of range.
    """
    for key, low, high in ranges:
        numbers = OmegaConf.select(cfg, key)
        check_ranges(cfg, [(f"{key}[{i}]", low, high) for i in range(len(numbers or ()))])


def _range_in_words(low: float, high: float) -> str:
    lowest = "above 0" if low == ABOVE_0 else f"at least {low:,}"
    if high == BELOW_1:
        return f"{lowest} and below 1"
    return lowest if high >= FINITE else f"{lowest} and at most {high:,}"


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved Python values (enums by name)."""
    container = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
