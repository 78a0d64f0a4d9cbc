"""The strict check of a composed configuration: Hydra's `+key` and `++key` go past its schemas."""

from __future__ import annotations

import difflib
import math
from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, OmegaConf

from kexue_cli.catalogue import options_of_task, taken_by, task_names
from kexue_cli.config import (
    ABOVE_0,
    BELOW_1,
    FINITE,
    Mode,
    Range,
    check_ranges,
    task_config_modules,
)
from kexue_cli.errors import ConfigError

MOST_THREADS = 4096
RANGES: tuple[Range, ...] = (
    ("seed", 0, 2**63 - 1),
    ("checkpoint_minutes", 0, math.inf),
    ("limit.steps", ABOVE_0, FINITE),
    ("limit.rows", ABOVE_0, FINITE),
    ("device.threads", 1, MOST_THREADS),
    ("optim.lr", ABOVE_0, FINITE),
    ("optim.weight_decay", 0, FINITE),
    ("optim.eps", 0, FINITE),
    ("optim.momentum", 0, BELOW_1),
    ("optim.warmup_steps", 0, FINITE),
    ("optim.final_lr_fraction", 0, FINITE),
    ("optim.clip_norm", ABOVE_0, math.inf),
    ("optim.accumulate", 1, FINITE),
    ("optim.ema_decay", 0, BELOW_1),
)


def check(cfg: DictConfig) -> None:
    """The strict check of a composed configuration, before any work and without torch.

    Raises:
        ConfigError: an unknown key (with the nearest valid name), a missing value, a model or data
            set of another task, or a bad combination; the message names the key.
    """
    _reject_unknown_keys(cfg, "")
    _reject_missing(cfg)
    for group in ("model", "data"):
        _check_serves_task(cfg, group)
    _check_common_values(cfg)
    for module in task_config_modules():
        if module.__name__.split(".")[-2] == cfg.task.name and hasattr(module, "check"):
            module.check(cfg)


def _reject_unknown_keys(node: DictConfig, prefix: str) -> None:
    schema = OmegaConf.get_type(node)
    known = {f.name for f in fields(schema)} if is_dataclass(schema) else None
    for key in map(str, node):
        full_key = f"{prefix}{key}"
        if known is not None and key not in known:
            raise ConfigError(full_key, "unknown key. " + nearest(key, known, prefix))
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig):
            _reject_unknown_keys(value, f"{full_key}.")


def _reject_missing(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError(missing[0], f"a value is needed: add {missing[0]}=… to the command")


def _check_serves_task(cfg: DictConfig, group: str) -> None:
    choice, task = cfg[group], cfg.task.name
    options = ", ".join(options_of_task(group, task))
    if choice is None:
        raise ConfigError(group, f"task={task} needs one of: {options}")
    if choice.task not in taken_by(task):
        served = f"task={choice.task}" if choice.task in task_names() else f"tasks on {choice.task}"
        raise ConfigError(group, f"{choice.name!r} is for {served}; task={task} has: {options}")


def _check_common_values(cfg: DictConfig) -> None:
    needs_training = getattr(OmegaConf.get_type(cfg.model), "needs_training", True)
    untrained = cfg.checkpoint is None and cfg.resume is None
    if cfg.mode != Mode.train and needs_training and untrained:
        raise ConfigError(
            "checkpoint", f"mode={cfg.mode.name} needs a trained run: add checkpoint=<run dir>"
        )
    check_ranges(cfg, RANGES)
    betas = OmegaConf.select(cfg, "optim.betas")
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise ConfigError(
            "optim.betas", f"must be two numbers of at least 0 and below 1, found {list(betas)}"
        )


def nearest(word: str, known: set[str], prefix: str = "") -> str:
    """Advice that names the nearest valid key, or all valid keys where none is near."""
    visible = sorted(name for name in known if not name.startswith("_"))
    close = difflib.get_close_matches(word, visible, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {prefix}{close[0]}?"
    return f"Valid here: {', '.join(prefix + name for name in visible) or 'nothing'}"
