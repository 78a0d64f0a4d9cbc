"""The models by name: from options and what is known of the images to a `Vae`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.vae.categorical import CategoricalLatent
from kexue_cli.tasks.vae.latents import GaussianLatent, TwoLayerLatent
from kexue_cli.tasks.vae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
)
from kexue_cli.tasks.vae.model import Likelihood, Vae
from kexue_cli.tasks.vae.networks import CellLinear, ConvDecoder, ConvEncoder, DenseDecoder, Mlp
from kexue_cli.tasks.vae.sphere import SphereLatent


@dataclass(frozen=True)
class Images:
    """What a builder must know of the data.

    `shape` is (height, width), `levels` the number of gray levels, `mean` the mean training image
    (pixels,).
    """

    shape: tuple[int, int]
    levels: int | None
    classes: int
    mean: np.ndarray

    @property
    def pixels(self) -> int:
        """Height * width."""
        return self.shape[0] * self.shape[1]


def make_likelihood(
    name: str,
    images: Images,
    cells: int,
    sigma: str,
    sigma_value: float,
    sigma_floor: float,
    squash: bool = True,
) -> Likelihood:
    """The likelihood called `name`; `squash` puts a Gaussian's mean through a sigmoid."""
    match name:
        case "bernoulli":
            return Bernoulli()
        case "continuous_bernoulli":
            return ContinuousBernoulli()
        case "gaussian":
            return Gaussian(cells, sigma, sigma_value, sigma_floor, squash)
        case "discretised_logistic":
            if images.levels is None:
                raise ConfigError(
                    "model.likelihood",
                    "discretised_logistic needs whole gray levels, not fractions",
                )
            return DiscretisedLogistic(images.levels)
    raise ConfigError("model.likelihood", f"unknown likelihood {name!r}")


def vae_mlp(
    images: Images,
    generators: Sequence[torch.Generator],
    latent: int,
    hidden: Sequence[int],
    activation: str,
    likelihood: str,
    sigma: str,
    sigma_value: float,
    sigma_floor: float,
    log_sigma: bool = False,
    bias_from_data: bool = False,
    class_mean_prior: bool = False,
    conditional: bool = False,
    squash: bool = True,
) -> Vae:
    """Dense encoder and its mirror image; one cell per generator."""
    cells = len(generators)
    seen = images.classes if conditional else 0
    encoder = Mlp(generators, images.pixels + seen, hidden, activation)
    classes = images.classes if class_mean_prior else 0
    code = GaussianLatent(generators, encoder.outputs, latent, log_sigma, classes)
    top = make_likelihood(likelihood, images, cells, sigma, sigma_value, sigma_floor, squash)
    body = Mlp(generators, latent + seen, list(reversed(hidden)), activation)
    last = CellLinear(generators, body.outputs, images.pixels * top.outputs_per_pixel)
    if bias_from_data:
        set_bias_from_mean_(last, images.mean, top)
    return Vae(encoder, code, DenseDecoder(body, last), top, cells, conditional)


def iwae_mlp(
    images: Images,
    generators: Sequence[torch.Generator],
    layers: int,
    latent: int,
    hidden: Sequence[int],
    top_latent: int,
    top_hidden: int,
    bias_from_data: bool,
) -> Vae:
    """Burda et al. 2016, tanh: x-200-200-z50; with two layers z1 of 100, z2 of 50 above it."""
    if layers == 1:
        return vae_mlp(
            images,
            generators,
            latent,
            hidden,
            "tanh",
            "bernoulli",
            "fixed",
            1.0,
            1.0,
            True,
            bias_from_data,
        )
    encoder = Mlp(generators, images.pixels, hidden, "tanh")
    code = TwoLayerLatent(generators, encoder.outputs, latent, top_latent, top_hidden)
    body = Mlp(generators, latent, list(reversed(hidden)), "tanh")
    last = CellLinear(generators, body.outputs, images.pixels)
    if bias_from_data:
        set_bias_from_mean_(last, images.mean, Bernoulli())
    return Vae(encoder, code, DenseDecoder(body, last), Bernoulli(), len(generators))


def vae_linear(
    images: Images,
    generators: Sequence[torch.Generator],
    latent: int,
    sigma: str,
    sigma_value: float,
) -> Vae:
    """Linear nets, Gaussian noise: at its optimum probabilistic PCA (Lucas et al. 2019)."""
    return vae_mlp(
        images, generators, latent, [], "linear", "gaussian", sigma, sigma_value, 1e-6, squash=False
    )


def vae_conv(
    images: Images,
    generators: Sequence[torch.Generator],
    latent: int,
    filters: Sequence[int],
    dense: int,
    likelihood: str,
    sigma: str,
    sigma_value: float,
    sigma_floor: float,
) -> Vae:
    """The posts' convolutional auto-encoder (bojone/vae, vae_keras_cnn.py)."""
    generator = _one(generators)
    check_divisible(images, filters)
    encoder = ConvEncoder(generator, images.shape, filters, dense)
    top = make_likelihood(likelihood, images, 1, sigma, sigma_value, sigma_floor)
    if top.outputs_per_pixel != 1:
        raise ConfigError(
            "model.likelihood", "vae_conv has one output per pixel; use model=vae_mlp for two"
        )
    decoder = ConvDecoder(generator, latent, images.shape, filters)
    return Vae(encoder, GaussianLatent([generator], dense, latent), decoder, top)


def vae_gumbel(
    images: Images,
    generators: Sequence[torch.Generator],
    variables: int,
    categories: int,
    filters: Sequence[int],
    dense: int,
) -> Vae:
    """Discrete latents by Gumbel-softmax (bojone/vae, vae_keras_cnn_gs.py)."""
    generator = _one(generators)
    check_divisible(images, filters)
    encoder = ConvEncoder(generator, images.shape, filters, dense)
    code = CategoricalLatent([generator], dense, variables, categories)
    decoder = ConvDecoder(generator, variables * categories, images.shape, filters, [dense])
    return Vae(encoder, code, decoder, Bernoulli())


def vae_vmf(
    images: Images,
    generators: Sequence[torch.Generator],
    latent: int,
    hidden: Sequence[int],
    kappa: float,
) -> Vae:
    """Latents on the unit sphere (bojone/vae, vae_vmf_keras.py)."""
    encoder = Mlp(generators, images.pixels, hidden, "relu")
    code = SphereLatent(generators, encoder.outputs, latent, kappa)
    body = Mlp(generators, latent, list(reversed(hidden)), "relu")
    last = CellLinear(generators, body.outputs, images.pixels)
    return Vae(encoder, code, DenseDecoder(body, last), Bernoulli(), len(generators))


def set_bias_from_mean_(last: CellLinear, mean: np.ndarray, likelihood: Likelihood) -> None:
    """Start a Bernoulli decoder at the mean image, clipped to .001 ... .999, as Burda et al. do."""
    if not isinstance(likelihood, Bernoulli | ContinuousBernoulli):
        return
    clipped = torch.from_numpy(np.clip(mean, 0.001, 0.999)).to(last.bias.dtype)
    with torch.no_grad():
        last.bias.copy_(torch.logit(clipped).expand_as(last.bias))


def check_divisible(images: Images, filters: Sequence[int]) -> None:
    """Raise ConfigError unless every halving of the picture comes out even."""
    if any(side % 2 ** len(filters) for side in images.shape) or math.prod(images.shape) == 0:
        raise ConfigError(
            "model.filters",
            f"{len(filters)} halvings need sides divisible by {2 ** len(filters)}; the images are "
            f"{images.shape[0]} x {images.shape[1]}. Use fewer filters or model=vae_mlp",
        )


def _one(generators: Sequence[torch.Generator]) -> torch.Generator:
    if len(generators) != 1:
        raise ConfigError("model", "convolutional models train one cell at a time")
    return generators[0]
