"""Who computes the blocks in training and evaluation: own kernels where there are any, or torch."""

from __future__ import annotations

from omegaconf import DictConfig

from kexue_cli.config import Precision
from kexue_cli.errors import ConfigError
from kexue_cli.run.device import Device
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.native_trunk import NativeTrunk, obstacle


def choose_engine(model: Gpt, cfg: DictConfig, device: Device) -> str:
    """Give the model the native kernels if `task.engine` and everything else allow; says so.

    Raises:
        ConfigError: they were asked for and cannot be had.
    """
    asked = cfg.task.engine
    reason = "asked for" if asked == "plain" else _obstacle(model, cfg, device)
    if reason is None:
        model.native = NativeTrunk(model.arch)
        return "blocks by native kernels"
    if asked == "native":
        raise ConfigError("task.engine", f"the native kernels cannot be had: {reason}")
    return f"blocks by torch ({reason})"


def _obstacle(model: Gpt, cfg: DictConfig, device: Device) -> str | None:
    if device.type != "cpu":
        return "the native kernels compute on a CPU"
    if device.precision is not Precision.fp32:
        return f"the native kernels compute in fp32, not {device.precision.name}"
    if cfg.device.compile or model.checkpointing or cfg.task.shard:
        return "torch compiles, checkpoints or shards them"
    reason = obstacle(model.arch)
    return None if reason is None else f"no native kernels: {reason}"
