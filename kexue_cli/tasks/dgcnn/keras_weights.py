"""Weights of the Keras original: an npz with Keras' layouts, read and written.

Names are `q_block1/conv/kernel` … `p_pool/k_dense/kernel` … `embed/char_embeddings`; a
convolution's kernel is (taps, in, out), a dense one (in, out). A convolution's first half of output
channels is the value, its second the gate.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from kexue_cli.tasks.common.keras_arrays import load_arrays, save_arrays
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


def load_keras_weights(model: Dgcnn2019, path: Path) -> None:
    """Fill `model` from an npz in Keras' layout.

    Raises:
        UserError: see `load_arrays`; the model is then unchanged.
    """
    load_arrays(keras_parameters(model), path, "Do the model's blocks and word vectors fit?")


def save_keras_weights(model: Dgcnn2019, path: Path) -> None:
    """Write an npz that `load_keras_weights` understands."""
    save_arrays(keras_parameters(model), path)
