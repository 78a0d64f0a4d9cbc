"""Weights of the Keras original: an npz with Keras' names and layouts, read and written.

Names are `block1/conv1/kernel` … `block1/skip/kernel` … `dense1/kernel`, `dense2/bias`; a
convolution's kernel is (taps, in, out), a dense one (in, out).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from kexue_cli.tasks.common.keras_arrays import load_arrays, save_arrays
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


def load_keras_weights(model: Conv1dRes, path: Path) -> None:
    """Fill `model` from an npz in Keras' layout.

    Raises:
        UserError: see `load_arrays`; the model is then unchanged.
    """
    load_arrays(keras_parameters(model), path, "Does model.filters fit?")


def save_keras_weights(model: Conv1dRes, path: Path) -> None:
    """Write an npz that `load_keras_weights` understands."""
    save_arrays(keras_parameters(model), path)
