"""Weights of the Keras original: an npz with Keras' names and layouts, read and written.

Names are `block1/conv1/kernel` … `block1/skip/kernel` … `dense1/kernel`, `dense2/bias`; a
convolution's kernel is (taps, in, out), a dense one (in, out).
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.conv1d_res import Conv1dRes, PairSumConv, ResidualBlock


def keras_layers(model: Conv1dRes) -> dict[str, nn.Module]:
    """Keras' layer names → our layers with a `weight` and a `bias`."""
    layers: dict[str, nn.Module] = {}
    for b, block in enumerate(model.blocks.children(), start=1):
        assert isinstance(block, ResidualBlock)
        for c, pair in enumerate(block.convs.children(), start=1):
            assert isinstance(pair, PairSumConv)
            layers[f"block{b}/conv{c}"] = pair.conv
        if isinstance(block.skip, nn.Conv1d):
            layers[f"block{b}/skip"] = block.skip
    return {**layers, "dense1": model.hidden, "dense2": model.output}


def keras_parameters(model: Conv1dRes) -> dict[str, Tensor]:
    """Keras' array names → our parameters (in our layout)."""
    return {
        f"{name}/{theirs}": layer.get_parameter(ours)
        for name, layer in keras_layers(model).items()
        for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
    }


def to_keras_layout(array: np.ndarray) -> np.ndarray:
    """(out, in, taps) -> (taps, in, out), (out, in) -> (in, out); its own inverse."""
    return np.ascontiguousarray(array.transpose())


def load_keras_weights(model: Conv1dRes, path: Path) -> None:
    """Fill `model` from an npz in Keras' layout.

    Raises:
        UserError: the file cannot be read, an array is missing or unknown, or a shape differs; the
            array, both shapes and the file are named. The model is then unchanged.
    """
    arrays = _read(path)
    parameters = keras_parameters(model)
    missing, unknown = sorted(parameters.keys() - arrays), sorted(arrays.keys() - parameters)
    if missing or unknown:
        raise UserError(
            f"{path}: not the weights of this model. Missing: {missing[:3] or 'none'}; "
            f"unknown: {unknown[:3] or 'none'}. Does model.filters fit?"
        )
    for name, parameter in parameters.items():
        expected, found = tuple(reversed(parameter.shape)), arrays[name].shape
        if found != expected:
            raise UserError(f"{path}: {name} has shape {found}, the model needs {expected}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(to_keras_layout(arrays[name])))


def save_keras_weights(model: Conv1dRes, path: Path) -> None:
    """Write an npz that `load_keras_weights` and Keras' own `set_weights` understand."""
    arrays = {
        name: to_keras_layout(parameter.detach().cpu().numpy())
        for name, parameter in keras_parameters(model).items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (model.weights)") from error
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an npz of plain arrays ({error})") from error
