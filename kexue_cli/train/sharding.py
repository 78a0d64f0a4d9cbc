"""Weights divided among processes (FSDP2): each keeps its share, gradients and optimiser included.

A sharded model has DTensors for parameters. The training loop saves them whole, so a checkpoint
does not depend on the number of processes that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kexue_cli.run.ranks import Ranks


def shard(model: nn.Module, parts: Iterable[nn.Module], ranks: Ranks, device_type: str) -> None:
    """Divide the weights of `model` among all ranks, in place.

    Each of `parts` is gathered when its turn comes and given up again; the rest stays gathered.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device_type, (ranks.size,))
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(tensor: Any) -> bool:
    """Whether this process holds only a share of the tensor (a DTensor, whose import is slow)."""
    return hasattr(tensor, "full_tensor")


def whole(value: Any) -> Any:
    """The same nested state with its tensors whole; all ranks must call it together."""
    if is_sharded(value):
        return value.full_tensor()
    if isinstance(value, dict):
        return type(value)((key, whole(item)) for key, item in value.items())
    if isinstance(value, list):
        return type(value)(whole(item) for item in value)
    return value


@torch.no_grad()
def copy_whole_(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    target.copy_(_placed_like(target, value))


def optimizer_state_for(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """`whole` optimiser state as its `load_state_dict` needs it: divided as the parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    divided = {
        index: {name: _placed_like(parameters[index], item) for name, item in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": divided}


def _placed_like(target: Any, value: Any) -> Any:
    if not is_sharded(target) or getattr(value, "shape", None) != target.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
