"""Loading Keras' weights into our networks, for the parity tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from kexue_cli.tasks.vae.builders import Images, vae_conv, vae_gumbel, vae_mlp, vae_vmf
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.networks import CellLinear


def arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / name) as stored:
        return {key: stored[key] for key in stored.files}


def images(size: int = 28, classes: int = 0) -> Images:
    return Images((size, size), 256, classes, np.full(size * size, 0.5))


def layers_of(model: Vae) -> dict[str, Any]:
    """Keras layer name -> our layer."""
    latent, encoder, decoder = cast("tuple[Any, ...]", (model.latent, model.encoder, model.decoder))
    found: dict[str, Any] = {}
    dense_encoder = getattr(encoder, "layers", None)
    if dense_encoder is not None:
        found["enc_hidden"] = dense_encoder[0]
        found["dec_hidden"], found["dec_out"] = decoder.body.layers[0], decoder.last
    else:
        found["enc_conv1"], found["enc_conv2"] = encoder.convolutions
        found["enc_dense"] = encoder.dense
        names = ["dec_dense"] if len(decoder.dense.layers) == 1 else ["dec_dense1", "dec_dense2"]
        found.update(zip(names, decoder.dense.layers, strict=True))
        found["dec_convt1"], found["dec_convt2"] = decoder.transposed
        found["dec_convt_out"] = decoder.last
    for ours, keras in (("mean", "z_mean"), ("log_var", "z_log_var"), ("logits", "logits")):
        if hasattr(latent, ours):
            found[keras if model.latent.__class__.__name__ != "SphereLatent" else "mu"] = getattr(
                latent, ours
            )
    if getattr(latent, "class_mean", None) is not None:
        found["class_mean"] = latent.class_mean
    return found


def ours_to_keras(layer: nn.Module, kind: str, tensor: Tensor) -> Tensor:
    """Our array in Keras' layout: Dense (in, out); Conv2D (h, w, in, out); Conv2DTranspose (h, w,
    out, in).
    """
    if isinstance(layer, CellLinear):
        return tensor[0] if kind == "kernel" else tensor[0, 0]
    if kind == "bias":
        return tensor
    return tensor.permute(2, 3, 1, 0)  # torch: conv (out, in, h, w), transposed (in, out, h, w)


def load_weights(model: Vae, weights: dict[str, np.ndarray]) -> None:
    layers = layers_of(model)
    assert {key.split("/")[0] for key in weights} == set(layers)
    with torch.no_grad():
        for key, value in weights.items():
            name, kind = key.split("/")
            layer = layers[name]
            parameter = layer.weight if kind == "kernel" else layer.bias
            ours_to_keras(layer, kind, parameter).copy_(torch.from_numpy(value).to(parameter.dtype))


def model_for(name: str, dtype: torch.dtype) -> Vae:
    generators = [torch.Generator().manual_seed(0)]
    gauss = ("bernoulli", "fixed", 1.0, 0.01)
    match name:
        case "vae":
            model = vae_mlp(images(), generators, 2, [256], "relu", *gauss)
        case "cvae":
            model = vae_mlp(
                images(28, 10), generators, 2, [256], "relu", *gauss, class_mean_prior=True
            )
        case "vae_cnn":
            model = vae_conv(images(), generators, 2, [32, 64], 16, *gauss)
        case "vae_cnn_gs":
            model = vae_gumbel(images(), generators, 32, 10, [32, 64], 32)
        case _:
            model = vae_vmf(images(), generators, 4, [256], 20.0)
    return model.to(dtype)
