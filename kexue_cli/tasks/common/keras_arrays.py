"""Weights as npz in Keras' layout: kernels (taps, in, out) or (in, out), biases as they are."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kexue_cli.errors import UserError

FAILURES = (
    OSError, EOFError, ValueError, AttributeError, TypeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What numpy raises for files that are no npz of plain arrays."""


def other_layout(name: str, array: np.ndarray) -> np.ndarray:
    """Kernels turned round, (out, in, taps) ↔ (taps, in, out); its own inverse."""
    turned = array.transpose() if name.endswith("kernel") else array
    return np.ascontiguousarray(turned)


def load_arrays(parameters: Mapping[str, Tensor], path: Path, hint: str) -> None:
    """Fill `parameters`, in torch's layout under Keras' names, from an npz in Keras' layout.

    `hint`: what the user may check when names are missing or unknown.

    Raises:
        UserError: the file cannot be read, an array is missing or unknown, or a shape differs; the
            array, both shapes and the file are named. No parameter is then changed.
    """
    arrays = _read(path)
    missing, unknown = sorted(parameters.keys() - arrays), sorted(arrays.keys() - parameters)
    if missing or unknown:
        raise UserError(
            f"{path}: not the weights of this model. Missing: {missing[:3] or 'none'}; "
            f"unknown: {unknown[:3] or 'none'}. {hint}"
        )
    for name, parameter in parameters.items():
        shape = tuple(parameter.shape)
        expected = shape[::-1] if name.endswith("kernel") else shape
        if arrays[name].shape != expected:
            raise UserError(
                f"{path}: {name} has shape {arrays[name].shape}, the model needs {expected}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(other_layout(name, arrays[name])))


def save_arrays(parameters: Mapping[str, Tensor], path: Path) -> None:
    """Write an npz that `load_arrays` and Keras' own `set_weights` understand."""
    arrays = {
        name: other_layout(name, parameter.detach().cpu().numpy())
        for name, parameter in parameters.items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (model.weights)") from error
    except FAILURES as error:
        raise UserError(f"{path}: not an npz of plain arrays ({error})") from error
