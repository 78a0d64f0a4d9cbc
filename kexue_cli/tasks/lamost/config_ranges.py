"""What the values of task=lamost may be, and how long its networks need a spectrum to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from kexue_cli.config import ABOVE_0, BELOW_1, FINITE, Range, check_list_ranges
from kexue_cli.errors import ConfigError

WIDEST = 4096  # channels of one layer: weights of a few gigabytes
BLOCKS = 8  # of conv1d_res where model.filters is one number

TASK_RANGES: tuple[Range, ...] = (
    ("task.batch_size", 1, 10**6),
    ("task.evaluate_every", 1, FINITE),
    ("task.label_smoothing", 0, BELOW_1),
    *(
        (f"task.{stage}.{key}", low, high)
        for stage in ("cross_entropy", "soft_f1")
        for key, low, high in (
            ("steps", 0, FINITE),
            ("lr", ABOVE_0, FINITE),
            ("batch_size", 1, 10**6),
            ("patience", 1, FINITE),
        )
    ),
    ("task.augment.noise", 0, 100),
    ("task.augment.scale", 0, 10),
    ("task.augment.shift", 0, FINITE),  # see `check_length`
    ("task.augment.stretch", 0, 1),
    ("task.augment.flip", 0, 1),
    ("task.augment.erase", 0, 1),
)
MODEL_RANGES: tuple[Range, ...] = (
    ("model.dropout", 0, BELOW_1),
    ("model.kernel_size", 1, 10**4),
    ("model.hidden", 1, 10**5),
    ("model.stem", 1, WIDEST),
    ("model.growth", 1, WIDEST // 4),
    ("model.depth", 1, 256),
    ("model.bottleneck", 1, WIDEST),
    ("model.downsample", 1, FINITE),  # see `check_length`
)
DATA_RANGES: tuple[Range, ...] = (
    ("data.valid_fraction", ABOVE_0, BELOW_1),
    ("data.test_fraction", 0, BELOW_1),
    ("data.n_folds", 2, 10**6),
    ("data.fold", 0, FINITE),
    ("data.scale", 1e-30, 1e30),
    ("data.clip", ABOVE_0, math.inf),
    ("data.n_spectra", 24, 10**8),  # the simulator makes six of each class at least
    ("data.n_test", 0, 10**8),
    ("data.length", 2, 10**7),
    ("data.data_seed", 0, FINITE),
    ("data.snr_scale", 1e-6, 10**6),
    ("data.workers", 1, 4096),
    ("data.first_angstrom", ABOVE_0, 1e12),
    ("data.last_angstrom", ABOVE_0, 1e12),
)
LIST_RANGES: tuple[Range, ...] = (  # of every number of a list
    ("task.class_shares", 0, 1e30),
    ("task.class_weights", 0, 1e30),
    ("data.class_shares", 1e-30, 1e30),
    ("model.dilations", 1, 4096),
    ("model.layers", 0, 256),
    ("model.kernel_sizes", 1, 10**4),
)


def check_lists(cfg: Any) -> None:
    """Hold the lists against LIST_RANGES; null or absent ones are let through.

    Raises:
        ConfigError: an empty list, or a number out of range (NaN lies in no range).
    """
    for key, _, _ in LIST_RANGES:
        found = OmegaConf.select(cfg, key)
        if found is not None and not len(found):
            raise ConfigError(key, "one or more numbers are needed, found none")
    check_list_ranges(cfg, LIST_RANGES)


def check_filters(model: Any) -> None:
    """`model.filters`: one width or, for conv1d_res, a list of them.

    Raises:
        ConfigError: something else, or a width out of range.
    """
    filters = model.get("filters")
    if filters is None and model.name == "densenet1d":
        return
    widest = WIDEST if model.name == "inception1d" else WIDEST >> (BLOCKS // 2 - 1)
    widths: Sequence[Any] = [filters] if isinstance(filters, int) else _listed(filters)
    highest = widest if isinstance(filters, int) else WIDEST
    if not widths or not all(isinstance(width, int) for width in widths):
        raise ConfigError("model.filters", f"expected a number or a list of them, found {filters}")
    if not all(1 <= width <= highest for width in widths):
        raise ConfigError("model.filters", f"expected 1 to {highest}, found {filters}")


def _listed(filters: Any) -> Sequence[Any]:
    return list(filters) if OmegaConf.is_list(filters) or isinstance(filters, list) else ()


def least_length(model: Any) -> int:
    """Points a spectrum needs so that something is left after the pools of `cfg.model`."""
    if model.name == "conv1d_res":
        blocks = BLOCKS if isinstance(model.filters, int) else len(model.filters)
        return int(2 ** (blocks - 1))
    if model.name == "densenet1d":  # the stem halves twice, each transition once
        return int(2 ** (len(model.layers) + 1) - 1)
    return int(model.downsample)


def check_length(cfg: Any, length: int) -> None:
    """Whether spectra of `length` points go through the network and the augmentation.

    Raises:
        ConfigError: too short; the message names the least length, and a network that fits.
    """
    if length < 2:
        raise ConfigError("data", f"spectra of 2 points or more are needed, these have {length}")
    least = least_length(cfg.model)
    if length < least:
        key, remedy = _shorter(cfg.model.name, length)
        raise ConfigError(
            key,
            f"model={cfg.model.name} with these settings needs spectra of {least} points or more, "
            f"these have {length}: {remedy}",
        )
    if cfg.task.augment.shift >= length:
        raise ConfigError(
            "task.augment.shift",
            f"expected less than the {length} points of a spectrum, found {cfg.task.augment.shift}",
        )
    if 1 in (_values_of_a_channel(cfg, length, stage) for stage in ("cross_entropy", "soft_f1")):
        raise ConfigError(
            "task.batch_size",
            f"model={cfg.model.name} leaves one point of {length}, and its batch norm needs "
            "batches of 2 or more then",
        )


def _values_of_a_channel(cfg: Any, length: int, stage: str) -> int:
    """How many a batch norm has where there are fewest; 0 without one."""
    settings, model = cfg.task[stage], cfg.model
    if settings.steps == 0 or model.name == "conv1d_res":
        return 0
    batch_size = int(settings.batch_size or cfg.task.batch_size)
    if model.name == "densenet1d":
        return batch_size * ((length + 1) // 2 >> len(model.layers))
    return batch_size * (length // int(model.downsample))


def _shorter(name: str, length: int) -> tuple[str, str]:
    """The key that decides how long a spectrum must be, and what fits `length` points."""
    other = "or use model=inception1d, which takes any length"
    if name == "conv1d_res":
        most = length.bit_length()  # blocks with a max-pool of 2 between them
        return (
            "model.filters",
            f"shorten the list to {most} or fewer, as in model.filters=[16], {other}",
        )
    if name == "densenet1d":
        most = (length + 1).bit_length() - 2
        fewer = f"shorten the list to {most} or fewer, as in model.layers=[3], " if most > 0 else ""
        return "model.layers", fewer + other.removeprefix("" if fewer else "or ")
    return "model.downsample", f"set at most {length}"
