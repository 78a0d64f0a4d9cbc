"""Who computes embeddings, gated blocks and self-attention: own kernels or torch."""

from __future__ import annotations

from omegaconf import DictConfig
from torch import nn

from kexue_cli.config import Precision
from kexue_cli.errors import ConfigError
from kexue_cli.native.memory import keep_freed_memory
from kexue_cli.run.device import Device
from kexue_cli.tasks.dgcnn.config import Engine
from kexue_cli.tasks.dgcnn.layers import GatedBlock, MixedEmbedding
from kexue_cli.tasks.dgcnn.native_block import obstacle
from kexue_cli.tasks.dgcnn.reader import SelfAttention


def choose_engine(network: nn.Module, cfg: DictConfig, device: Device) -> str:
    """Give the gated blocks the native kernels if `task.engine` and all else allow; says so.

    Raises:
        ConfigError: they were asked for and cannot be had.
    """
    asked = Engine[cfg.task.engine.name]
    reason = "asked for" if asked is Engine.plain else _obstacle(network, cfg, device)
    if reason is None:
        use_native(network)
        return "embedding and gated blocks by native kernels"
    if asked is Engine.native:
        raise ConfigError("task.engine", f"the native kernels cannot be had: {reason}")
    return f"embedding and gated blocks by torch ({reason})"


def use_native(network: nn.Module) -> None:
    """Let the kernels compute what they can of the network."""
    keep_freed_memory()
    for part in network.modules():
        if isinstance(part, GatedBlock | MixedEmbedding | SelfAttention):
            part.native = True


def _obstacle(network: nn.Module, cfg: DictConfig, device: Device) -> str | None:
    if device.type != "cpu":
        return "the native kernels compute on a CPU"
    if device.precision not in (Precision.fp32, Precision.bf16):
        return f"the native kernels compute in fp32 and bf16, not {device.precision.name}"
    if cfg.device.compile:
        return "torch compiles them"
    blocks = [part for part in network.modules() if isinstance(part, GatedBlock)]
    reasons = [obstacle(block.conv.in_channels, block.conv.kernel_size[0]) for block in blocks]
    return next(filter(None, reasons), None)
