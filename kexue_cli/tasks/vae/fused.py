"""A dense auto-encoder with normal latents and binary pixels as one node of the autograd graph.

Encoder, draw, densities and decoder are some fifty small operations; with a batch of 20 their
bookkeeping costs more than their arithmetic. Here the graph is written out by hand once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_cli.tasks.vae import dense
from kexue_cli.tasks.vae.latents import LOG_TWO_PI, LOG_VAR_RANGE


class Densities(NamedTuple):
    """Of k draws: log-densities (cells, batch, k), z (cells, batch, k, latents), q's parameters."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    z: Tensor
    mean: Tensor
    log_var: Tensor


@dataclass(frozen=True)
class Network:
    """Parameters: weight and bias of each layer in turn, as `dense.stack` takes them."""

    encoder: list[Tensor]
    heads: list[Tensor]  # of the mean, of log_var
    decoder: list[Tensor]
    encoder_activation: str
    decoder_activation: str
    factor: float  # log_var is this times the second head

    @property
    def parameters(self) -> list[Tensor]:
        """All, in the order of the fields."""
        return [*self.encoder, *self.heads, *self.decoder]


def densities(network: Network, x: Tensor, noise: Tensor) -> Densities:
    """Images x (cells or 1, batch, pixels), noise (cells, batch, k, latents), all float32."""
    bfloat16 = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        found = _Fused.apply(network, bfloat16, x.contiguous(), noise, *network.parameters)
    return Densities(*found)


class _Fused(torch.autograd.Function):
    """Encoder, draws and decoder as one node of the graph, so that nothing is kept twice."""

    @staticmethod
    def forward(
        ctx: Any, network: Network, bfloat16: bool, x: Tensor, noise: Tensor, *_: Tensor
    ) -> Densities:
        """The three log densities (cells, batch, k), the draws and the posterior's moments."""
        ctx.set_materialize_grads(False)
        act = network.encoder_activation
        encoder = dense.plan(bfloat16, x.shape[-1], network.encoder, act, act, False)
        hidden, ctx.encoded = encoder.run(x, None, 1, network.encoder, keep="weights")
        mean_weight, mean_bias, var_weight, var_bias = network.heads
        mean = torch.baddbmm(mean_bias, hidden, mean_weight)
        raw = torch.baddbmm(var_bias, hidden, var_weight).mul_(network.factor)
        log_var = raw.clamp(*LOG_VAR_RANGE)
        sigma = torch.exp(0.5 * log_var)
        z = torch.addcmul(mean.unsqueeze(2), sigma.unsqueeze(2), noise)
        constant = z.shape[-1] * LOG_TWO_PI
        log_q = _squared_length(noise).add_(log_var.sum(-1, keepdim=True)).add_(constant).mul_(-0.5)
        log_p = _squared_length(z).add_(constant).mul_(-0.5)
        act = network.decoder_activation
        decoder = dense.plan(bfloat16, z.shape[-1], network.decoder, act, "linear", True)
        rows, k = z.flatten(1, 2), z.shape[2]
        keep = "weights and input"
        likelihood_of_rows, ctx.decoded = decoder.run(rows, x, k, network.decoder, keep)
        log_likelihood = likelihood_of_rows.view(log_p.shape)
        ctx.network, ctx.plans = network, (encoder, decoder)
        ctx.save_for_backward(z, noise, sigma, hidden, raw, log_likelihood)
        return Densities(log_likelihood, log_p, log_q, z, mean, log_var)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        to_likelihood: Tensor | None,
        to_prior: Tensor | None,
        to_posterior: Tensor | None,
        to_z: Tensor | None,
        to_mean: Tensor | None,
        to_log_var: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Gradients of every parameter; of x and of the noise there is none."""
        z, noise, sigma, hidden, raw, log_likelihood = ctx.saved_tensors
        encoder, decoder = ctx.plans
        through = torch.zeros_like(z) if to_likelihood is None else torch.empty_like(z)
        to_decoder: list[Tensor | None] = [None] * len(ctx.network.decoder)
        if to_likelihood is not None:
            rows = to_likelihood.flatten(1, 2).contiguous()
            to_z_rows = through.view(*rows.shape, -1)
            to_decoder = decoder.backward(ctx.decoded, log_likelihood, rows, to_z_rows)
        if to_prior is not None:
            through.addcmul_(to_prior.unsqueeze(-1), z, value=-1)
        if to_z is not None:
            through += to_z
        mean_gradient = _sum(through.sum(2), to_mean)
        half = (through * noise).sum(2).mul_(sigma)
        if to_posterior is not None:
            half -= to_posterior.sum(2, keepdim=True)
        log_var_gradient = _sum(half.mul_(0.5), to_log_var)
        low, high = LOG_VAR_RANGE
        factor = ((raw >= low) & (raw <= high)) * ctx.network.factor
        raw_gradient = log_var_gradient * factor
        mean_weight, _, var_weight, _ = ctx.network.heads
        to_hidden = torch.bmm(mean_gradient, mean_weight.detach().mT)
        to_hidden.baddbmm_(raw_gradient, var_weight.detach().mT)
        to_heads = [
            part
            for gradient in (mean_gradient, raw_gradient)
            for part in (torch.bmm(hidden.mT, gradient), gradient.sum(1, keepdim=True))
        ]
        to_encoder = encoder.backward(ctx.encoded, hidden, to_hidden, None)
        return None, None, None, None, *to_encoder, *to_heads, *to_decoder


def _squared_length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1).square_()


def _sum(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b
