"""What is maximised: bounds on log p(x), (cells, batch) in nats, and their gradients.

Post III, https://kexue.fm/archives/5383; Burda et al. 2016; Tucker et al. 2019 (DReG).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kexue_cli.tasks.vae.latents import GaussianLatent, log_normal
from kexue_cli.tasks.vae.model import Terms, Vae


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """The log of (1/k) sum exp over the last dimension."""
    if log_weights.shape[-1] == 1:
        return log_weights.squeeze(-1)
    return torch.logsumexp(log_weights, -1) - math.log(log_weights.shape[-1])


def iwae_bound(terms: Terms) -> Tensor:
    """L_k = log (1/k) sum_i p(x, z_i) / q(z_i|x) with its plain gradient; k = 1: sampled ELBO."""
    return log_mean_exp(terms.log_weights)


def vae_or_iwae(terms: Terms, iwae: Tensor) -> Tensor:
    """L_k in the cells where `iwae` (cells, 1) is true, else the mean of the k log-weights.

    The latter is Burda et al.'s VAE.
    """
    log_weights = terms.log_weights
    return torch.where(iwae, log_mean_exp(log_weights), log_weights.mean(-1))


def beta_elbo(
    terms: Terms, kl: str = "analytic", beta: float | Tensor = 1.0, free_bits: float = 0.0
) -> Tensor:
    """E log p(x|z) - beta KL, averaged over the k draws.

    `kl`: "analytic" where the latent has a closed form, "sampled": log q - log p at the same draws.
    `free_bits`: nats per latent below which the KL, averaged over the minibatch, costs nothing
    (Kingma et al. 2016). `beta` may be (cells, 1).
    """
    reconstruction = terms.log_likelihood.mean(-1)
    closed = terms.draw.kl
    if kl != "analytic" or closed is None:
        if isinstance(beta, float) and beta == 1.0:
            return terms.log_weights.mean(-1)  # in the order of iwae_bound: equal to the last bit
        return reconstruction - beta * (terms.log_posterior - terms.log_prior).mean(-1)
    if free_bits > 0:
        per_latent = closed.mean(1, keepdim=True).clamp_min(free_bits)  # (cells, 1, latents)
        return reconstruction - beta * per_latent.sum(-1)
    return reconstruction - beta * closed.sum(-1)


def two_penalties(terms: Terms, weight: float | Tensor) -> Tensor:
    """Log p(x|z) - |mean|^2/2 - weight |log_var|^2/2: post I on its way to the KL."""
    mean, log_var = terms.draw.mean, terms.draw.log_var
    assert mean is not None
    assert log_var is not None
    on_mean, on_log_var = 0.5 * mean.square().sum(-1), 0.5 * log_var.square().sum(-1)
    return terms.log_likelihood.mean(-1) - on_mean - weight * on_log_var


def doubly_reparameterised(
    model: Vae, x: Tensor, labels: Tensor | None, k: int, noise: Tensor | None = None
) -> Tensor:
    """L_k with the DReG gradient for the encoder: its signal does not drown as k grows.

    With w the normalised weights, the decoder's gradient is sum w d log p; the encoder's is sum w^2
    d log w/dz dz/dphi without the score term. The second w enters by a hook on z.
    """
    draw = model.latent.draw(model.features(x, labels), labels, k, noise, frozen=True)
    terms = model.terms(x, draw, labels)
    log_weights = terms.log_weights
    weights = torch.softmax(log_weights.detach(), -1)
    if draw.z.requires_grad:
        draw.z.register_hook(lambda gradient: gradient * weights.unsqueeze(-1))
    surrogate = (weights * log_weights).sum(-1)
    return surrogate + (log_mean_exp(log_weights) - surrogate).detach()


def prior_sampling(model: Vae, x: Tensor, k: int) -> Tensor:
    """Log (1/k) sum_i p(x|z_i), the k draws from the *prior* shared by the minibatch (post III).

    For a Bernoulli decoder. All pairs of image and draw are one matrix product: x.l - sum
    softplus(l).
    """
    z = model.latent.prior_draw(model.cells, k, None)  # (cells, k, latents)
    logits = model.decode(z.unsqueeze(2)).squeeze(2)  # (cells, k, pixels)
    pairs = torch.matmul(x, logits.mT) - functional.softplus(logits).sum(-1).unsqueeze(1)
    return log_mean_exp(pairs)


def score_function(model: Vae, x: Tensor, k: int, baseline: bool, score: bool = True) -> Tensor:
    """ELBO whose encoder gradient is REINFORCE: log p(x|z) d log q(z|x), z a constant.

    `baseline` subtracts the minibatch mean of log p(x|z); without `score` the encoder learns from
    the KL alone. The value is the usual ELBO.
    """
    latent = model.latent
    assert isinstance(latent, GaussianLatent)
    features = model.features(x)
    mean, log_var = latent.posterior(features)
    draw = latent.draw(features, None, k)
    draw.z = draw.z.detach()
    log_likelihood = model.terms(x, draw).log_likelihood
    signal = log_likelihood.detach()
    if baseline:
        signal = signal - signal.mean((1, 2), keepdim=True)
    assert draw.kl is not None
    bound = log_likelihood.mean(-1) - draw.kl.sum(-1)
    if not score:
        return bound
    log_q = log_normal(draw.z, mean.unsqueeze(2), log_var.unsqueeze(2))
    return bound + (signal * (log_q - log_q.detach())).mean(-1)


def objective(
    model: Vae,
    x: Tensor,
    labels: Tensor | None,
    name: str,
    k: int,
    kl: str = "analytic",
    beta: float | Tensor = 1.0,
    free_bits: float = 0.0,
) -> tuple[Tensor, Terms | None]:
    """(bound to maximise (cells, batch), terms if there are any) of the objective `name`."""
    match name:
        case "dreg":
            return doubly_reparameterised(model, x, labels, k), None
        case "prior_sampling":
            return prior_sampling(model, x, k), None
        case "reinforce" | "reinforce_baseline":
            return score_function(model, x, k, baseline=name == "reinforce_baseline"), None
        case "no_gradient":
            return score_function(model, x, k, baseline=False, score=False), None
    terms = model(x, labels, k, frozen=kl == "stl")
    match name:
        case "elbo":
            return beta_elbo(terms, kl, beta, free_bits), terms
        case "iwae":
            return iwae_bound(terms), terms
        case "two_penalties":
            return two_penalties(terms, beta), terms
    raise ValueError(f"unknown objective {name!r}")
