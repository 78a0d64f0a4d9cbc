"""Ranges of lists of numbers in a configuration. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import Range, check_ranges


def check_list_ranges(cfg: DictConfig, ranges: Iterable[Range]) -> None:
    """`check_ranges` for every number of a list: keys become `model.hidden[0]` and so on.

    Raises:
        ConfigError: names the first number that is out of range.
    """
    for key, low, high in ranges:
        numbers = OmegaConf.select(cfg, key)
        check_ranges(cfg, [(f"{key}[{i}]", low, high) for i in range(len(numbers or ()))])
