"""A variational auto-encoder: encoder, latent, decoder and likelihood put together."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kexue_cli.tasks.vae import dense, fused
from kexue_cli.tasks.vae.categorical import CategoricalLatent
from kexue_cli.tasks.vae.latents import Draw, GaussianLatent, TwoLayerLatent, gaussian_kl
from kexue_cli.tasks.vae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
)
from kexue_cli.tasks.vae.networks import DenseDecoder, Mlp
from kexue_cli.tasks.vae.sphere import SphereLatent

Likelihood = Bernoulli | ContinuousBernoulli | Gaussian | DiscretisedLogistic
Latent = GaussianLatent | TwoLayerLatent | CategoricalLatent | SphereLatent


@dataclass
class Terms:
    """Log p(x|z), log p(z), log q(z|x): (cells, batch, k) in nats; `draw` has z and the KL.

    `given_log_weights`: their sum, where it is there already.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    draw: Draw
    given_log_weights: Tensor | None = None

    @property
    def log_weights(self) -> Tensor:
        """Log p(x,z)/q(z|x), (cells, batch, k); always float32 or float64."""
        if self.given_log_weights is not None:
            return self.given_log_weights
        return self.log_likelihood + self.log_prior - self.log_posterior


class Vae(nn.Module):
    """`cells` independent auto-encoders of one shape.

    `conditional`: encoder and decoder see the one-hot label too.
    """

    def __init__(
        self,
        encoder: nn.Module,
        latent: Latent,
        decoder: nn.Module,
        likelihood: Likelihood,
        cells: int = 1,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.latent, self.decoder = encoder, latent, decoder
        self.likelihood = likelihood
        self.cells, self.conditional = cells, conditional
        self.native = False

    latent: Latent
    likelihood: Likelihood

    @property
    def needs_labels(self) -> bool:
        """Whether labels enter anywhere."""
        return self.conditional or getattr(self.latent, "class_mean", None) is not None

    def features(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encoder outputs for x (cells or 1, batch, pixels), labels (1, batch, classes)."""
        encoded: Tensor = self.encoder(self._with_labels(x, labels))
        return encoded

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decoder outputs (cells, batch, k, outputs) of z (cells, batch, k, latents)."""
        outputs: Tensor = self.decoder(self._rows(z, labels))
        return outputs.unflatten(1, z.shape[1:3])

    def forward(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        k: int = 1,
        noise: Tensor | None = None,
        frozen: bool = False,
    ) -> Terms:
        """Draw k latents per image and give all densities; see `Terms`."""
        if self.native and not frozen and torch.is_grad_enabled():
            network = self._network
            if network is not None and dense.takes([x, network.encoder[0]]):
                return self._fused_terms(network, x, k, noise)
        draw = self.latent.draw(self.features(x, labels), labels, k, noise, frozen)
        return self.terms(x, draw, labels)

    def terms(self, x: Tensor, draw: Draw, labels: Tensor | None = None) -> Terms:
        """The densities of images x (cells or 1, batch, pixels) at the latents of `draw`."""
        log_likelihood = self.log_likelihood(x, draw.z, labels)
        return Terms(log_likelihood, draw.log_prior, draw.log_posterior, draw)

    def log_weights(self, x: Tensor, features: Tensor, labels: Tensor | None, k: int) -> Tensor:
        """Log p(x,z)/q(z|x) of k new draws per image, (cells, batch, k), at least float32.

        From the encoder's outputs for x; without gradient, the draws are not kept.
        """
        network = self.drawn_in_kernel(x)
        if network is not None:
            assert isinstance(self.latent, GaussianLatent)
            mean, log_var = self.latent.posterior(features)
            return fused.log_weights(network, x, mean, log_var, k)
        log_weights = self.terms(x, self.latent.draw(features, labels, k), labels).log_weights
        return log_weights if log_weights.dtype == torch.float64 else log_weights.float()

    def drawn_in_kernel(self, x: Tensor) -> fused.Network | None:
        """The network, where `log_weights` of such images never has a draw in memory."""
        network = self._network if self.native and not torch.is_grad_enabled() else None
        return network if network and dense.takes([x, network.encoder[0]]) else None

    def log_likelihood(self, x: Tensor, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log p(x|z), (cells, batch, k), of z (cells, batch, k, latents)."""
        decoder, k = self.decoder, z.shape[2]
        if isinstance(decoder, DenseDecoder) and isinstance(self.likelihood, Bernoulli):
            rows = self._rows(z, labels)
            if decoder.takes(rows, x):
                return decoder.bernoulli_log_likelihood(rows, x, k).view(z.shape[:3])
        outputs = self.decode(z, labels)
        if outputs.dtype != torch.float64:
            outputs = outputs.float()  # log-weights of half precision would be off by whole nats
        return self.likelihood.log_prob(outputs, x)

    @functools.cached_property
    def _network(self) -> fused.Network | None:
        """The whole as one node of the graph, where it is of that kind."""
        encoder, latent, decoder = self.encoder, self.latent, self.decoder
        if not isinstance(encoder, Mlp) or not isinstance(decoder, DenseDecoder):
            return None
        if not isinstance(latent, GaussianLatent) or not isinstance(self.likelihood, Bernoulli):
            return None
        if not encoder.layers or self.needs_labels:
            return None
        return fused.Network(
            list(encoder.parameters()),
            list(latent.parameters()),
            list(decoder.parameters()),
            encoder.activation,
            decoder.body.activation,
            latent.factor,
        )

    def _fused_terms(
        self, network: fused.Network, x: Tensor, k: int, noise: Tensor | None
    ) -> Terms:
        assert isinstance(self.latent, GaussianLatent)
        if noise is None:
            noise = torch.randn(self.cells, x.shape[1], k, self.latent.latents)
        found = fused.densities(network, x, noise)
        draw = Draw(
            found.z,
            found.log_posterior,
            found.log_prior,
            found.mean,
            found.log_var,
            lambda: gaussian_kl(found.mean, found.log_var),
        )
        return Terms(
            found.log_likelihood, found.log_prior, found.log_posterior, draw, found.log_weights
        )

    def use_native(self, wanted: bool = True) -> Vae:
        """Compute dense layers by the kernels of `dense`, where they can be had."""
        self.native = wanted
        for module in self.modules():
            if isinstance(module, Mlp | DenseDecoder):
                module.native = wanted
        return self

    def _rows(self, z: Tensor, labels: Tensor | None) -> Tensor:
        if labels is not None:
            labels = labels.repeat_interleave(z.shape[2], dim=1)
        return self._with_labels(z.flatten(1, 2), labels)

    def _with_labels(self, rows: Tensor, labels: Tensor | None) -> Tensor:
        if not self.conditional:
            return rows
        if labels is None:
            raise ValueError("a label-conditioned model needs labels")
        return torch.cat([rows, labels.expand(rows.shape[0], -1, -1)], -1)
