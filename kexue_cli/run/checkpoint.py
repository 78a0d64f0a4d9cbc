"""Checkpoints: whole or not there, without code in them, and sure of whose they are."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from kexue_cli.errors import UserError
from kexue_cli.run.files import replacing

FORMAT_VERSION = 1


def save(path: Path, task: str, model: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; the former one of this name stays until the new one is on disk.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    content = {"format_version": FORMAT_VERSION, "task": task, "model": model, "state": state}
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        kept = f"The last good one is still at {path}." if path.exists() else "There is none yet."
        raise UserError(
            f"could not save the checkpoint {path}: {error}. {kept} "
            "Free some disk space and go on with resume=<run dir>."
        ) from error


def find(place: str | Path) -> Path:
    """The checkpoint file a user means: a file itself, or a run directory's best.pt, else last.pt.

    Raises:
        UserError: nothing is there.
    """
    path = Path(place)
    if path.is_file():
        return path
    for name in ("best.pt", "last.pt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist. Give a run directory or a .pt file")
    raise UserError(f"{path} has no checkpoints/best.pt or last.pt: that run saved nothing yet")


def load(path: Path, task: str, model: str | None = None, device: str = "cpu") -> dict[str, Any]:
    """The state of a checkpoint that belongs to this task and model.

    Raises:
        UserError: the file is cut short, holds code instead of numbers, is no checkpoint of ours,
            or belongs to another task or model.
    """
    content = _read(path, device)
    if not isinstance(content, dict) or "state" not in content or "task" not in content:
        raise UserError(f"{path} is not a checkpoint of kexue-run (it has no task and state)")
    if content["format_version"] > FORMAT_VERSION:
        raise UserError(f"{path} was written by a newer kexue-run; update this one to read it")
    if content["task"] != task:
        raise UserError(f"{path} is a checkpoint of task={content['task']}, not of task={task}")
    if model is not None and content["model"] != model:
        raise UserError(
            f"{path} is a checkpoint of model={content['model']}, not of model={model}. "
            f"Add model={content['model']}, or give another checkpoint"
        )
    state = content["state"]
    assert isinstance(state, dict)
    return state


def _read(path: Path, device: str) -> Any:
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            is_bare_pickle = file.read(1) == pickle.PROTO
        raise UserError(_unsafe(path) if is_bare_pickle else _damaged(path))
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_unsafe(path)) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(_damaged(path)) from error


def _unsafe(path: Path) -> str:
    return (
        f"{path} holds Python objects, not only numbers, and is refused: "
        "loading it could run code that somebody else put there"
    )


def _damaged(path: Path) -> str:
    size = path.stat().st_size
    return (
        f"{path} is damaged or cut short ({size:,} bytes cannot be read as a checkpoint). "
        "Use another one: checkpoints/best.pt and last.pt are written apart"
    )


def load_weights(
    module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path | str
) -> None:
    """Load weights into a module, naming the first tensor that does not fit.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape; both shapes are given.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the model lacks"
        raise UserError(
            f"{path} does not fit the configured model: it {what} "
            f"({len(missing)} tensors missing, {len(unknown)} unknown). Check model.*"
        )
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            raise UserError(
                f"{path} does not fit the configured model: {name} is "
                f"{tuple(weights[name].shape)} there and {tuple(tensor.shape)} here. Check model.*"
            )
    module.load_state_dict(weights)


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The user's module without the wrappers of torch.compile and data-parallel training."""
    while hasattr(module, "_orig_mod") or isinstance(
        module, torch.nn.parallel.DistributedDataParallel
    ):
        inner = getattr(module, "_orig_mod", None) or module.module
        assert isinstance(inner, torch.nn.Module)
        module = inner
    return module
