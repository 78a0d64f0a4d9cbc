"""Weights of the Keras original: an npz with Keras' layouts, read and written.

Names are `q_block1/conv/kernel` … `p_pool/k_dense/kernel` … `embed/char_embeddings`; a
convolution's kernel is (taps, in, out), a dense one (in, out). A convolution's first half of output
channels is the value, its second the gate.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019


def keras_parameters(model: Dgcnn2019) -> dict[str, Tensor]:
    """Keras' array names → our parameters (in our layout)."""
    layers: dict[str, nn.Module] = {}
    for side, blocks in (("q", model.question_blocks), ("p", model.passage_blocks)):
        for number, block in enumerate(blocks, start=1):
            layers[f"{side}_block{number}/conv"] = block.get_submodule("conv")
    for side, pool in (("q", model.question_pool), ("p", model.passage_pool)):
        layers[f"{side}_pool/k_dense"] = pool.hidden
        layers[f"{side}_pool/o_dense"] = pool.score
    layers["p_dense"] = model.merge
    layers |= {f"{name}_head": getattr(model, ours) for name, ours in HEADS.items()}
    if model.embedding.words is not None:
        layers["embed/word_dense"] = model.embedding.words
    named = {
        f"{name}/{theirs}": layer.get_parameter(ours)
        for name, layer in layers.items()
        for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
        if getattr(layer, ours) is not None
    }
    return {**named, "embed/char_embeddings": model.embedding.characters.weight}


HEADS = {"global": "whole", "start": "start", "end": "end"}


def other_layout(name: str, array: np.ndarray) -> np.ndarray:
    """Kernels turned round, (out, in, taps) ↔ (taps, in, out); its own inverse."""
    turned = array.transpose() if name.endswith("kernel") else array
    return np.ascontiguousarray(turned)


def load_keras_weights(model: Dgcnn2019, path: Path) -> None:
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
            f"unknown: {unknown[:3] or 'none'}. Do the model's blocks and word vectors fit?"
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


def save_keras_weights(model: Dgcnn2019, path: Path) -> None:
    """Write an npz that `load_keras_weights` understands."""
    arrays = {
        name: other_layout(name, parameter.detach().cpu().numpy())
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
