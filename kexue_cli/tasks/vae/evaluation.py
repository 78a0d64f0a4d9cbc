"""Numbers of a trained model in nats per image.

Every function keeps the cell dimension and works in chunks. Burda et al. 2016, section 5: NLL by
importance sampling from q; active units by the variance of the posterior mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kexue_cli.tasks.vae.latents import LOG_TWO_PI, GaussianLatent
from kexue_cli.tasks.vae.model import Terms, Vae

ACTIVE_VARIANCE = 0.01
ENCODED_TOGETHER = 200  # images, where the draws of even one fill the memory allowed
ROWS_IN_KERNEL = 100  # for one that is kept in memory
Tick = Callable[[int], None]


def nothing(_: int) -> None:
    """No progress shown."""


@torch.no_grad()
def elbo_numbers(
    model: Vae, x: Tensor, labels: Tensor | None, rows: int = 2000
) -> dict[str, Tensor]:
    """The bound and its parts, means over the images x (n, pixels).

    reconstruction, kl, kl_mean, kl_variance, neg_elbo: (cells,); kl_per_latent (cells, latents),
    active_units (cells,), mean_sigma (cells,) where the latents have them.

    One draw of z per image; the KL in closed form where there is one, else log q - log p of the
    same draw.
    """
    sums: dict[str, Tensor] = {}
    means: list[Tensor] = []
    for part, part_labels in chunks(x, labels, rows):
        terms: Terms = model(part, part_labels)
        for name, value in _summed_parts(terms).items():
            sums[name] = sums[name] + value if name in sums else value
        if terms.draw.mean is not None:
            means.append(terms.draw.mean)
    numbers = {name: value / len(x) for name, value in sums.items()}
    numbers["neg_elbo"] = numbers["reconstruction"] + numbers["kl"]
    if means:
        variance = torch.cat(means, 1).var(1)
        numbers["active_units"] = (variance > ACTIVE_VARIANCE).sum(-1).float()
    return numbers


def _summed_parts(terms: Terms) -> dict[str, Tensor]:
    """Sums over the batch."""
    parts = {"reconstruction": -terms.log_likelihood.mean(-1).sum(1)}
    draw = terms.draw
    if draw.kl_parts is None:
        parts["kl"] = (draw.log_posterior - draw.log_prior).mean(-1).sum(1)
        return parts
    parts["kl_mean"], parts["kl_variance"] = (part.sum((1, 2)) for part in draw.kl_parts)
    parts["kl"] = parts["kl_mean"] + parts["kl_variance"]
    parts["kl_per_latent"] = torch.add(*draw.kl_parts).sum(1)
    if draw.log_var is not None:
        parts["mean_sigma"] = torch.exp(0.5 * draw.log_var).mean(-1).sum(1)
    return parts


@torch.no_grad()
def log_weights(
    model: Vae,
    x: Tensor,
    labels: Tensor | None,
    samples: int,
    rows: int = 2000,
    tick: Tick = nothing,
) -> Iterator[Tensor]:
    """Log p(x,z)/q(z|x) of `samples` draws: (cells, images, samples) for one part after another.

    At most about `rows` decoder rows per cell are in memory at once, or, where the kernels keep
    nothing of a row but its log-weight, `ROWS_IN_KERNEL` times as many. The encoder runs once per
    image, for many images together.
    """
    if model.drawn_in_kernel(x):
        rows *= ROWS_IN_KERNEL
    at_once = max(1, rows // samples)
    for images, image_labels in chunks(x, labels, max(at_once, ENCODED_TOGETHER)):
        features = model.features(images, image_labels)
        for first in range(0, images.shape[1], at_once):
            part = slice(first, first + at_once)
            part_labels = None if image_labels is None else image_labels[:, part]
            pieces = []
            for begun in range(0, samples, rows):
                k = min(rows, samples - begun)
                given = features[:, part], part_labels, k
                pieces.append(model.log_weights(images[:, part], *given))
            yield torch.cat(pieces, -1)
            tick(pieces[0].shape[1])


def likelihood_numbers(
    model: Vae,
    x: Tensor,
    labels: Tensor | None,
    samples: int,
    bounds: list[int],
    rows: int = 2000,
    tick: Tick = nothing,
) -> dict[str, Tensor]:
    """Per image, (cells, n): `nll_is<samples>`, `neg_bound_k<k>` for k in `bounds`, `ess`.

    All come from the same draws: L_k is the mean over blocks of k. The effective sample size is
    (sum w)^2 / sum w^2.
    """
    found: dict[str, list[Tensor]] = {}
    for weights in log_weights(model, x, labels, samples, rows, tick):
        values = {f"nll_is{samples}": -_mean_bound(weights, samples)}
        for k in bounds:
            if k < samples:
                values[f"neg_bound_k{k}"] = -_mean_bound(weights, k)
        top = 2 * torch.logsumexp(weights, -1) - torch.logsumexp(2 * weights, -1)
        values["ess"] = torch.exp(top)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: torch.cat(parts, 1) for name, parts in found.items()}


def _mean_bound(weights: Tensor, k: int) -> Tensor:
    """Mean of log-mean-exp over whole blocks of k draws, (cells, images)."""
    blocks = weights[..., : weights.shape[-1] // k * k].unflatten(-1, (-1, k))
    return (torch.logsumexp(blocks, -1) - math.log(k)).mean(-1)


@torch.no_grad()
def aggregate_kl(model: Vae, x: Tensor, labels: Tensor | None) -> Tensor:
    """KL(q(z) || p(z)), q(z) the mean of q(z|x_j) over the n images x, (cells,).

    One z per image; log q(z_i) over all n posteriors, its own among them: an estimate from below,
    by at most the part of the mutual information beyond log n. For normal latents with the prior
    N(0, I).
    """
    features = model.features(x.unsqueeze(0), labels)
    assert isinstance(model.latent, GaussianLatent)
    mean, log_var = model.latent.posterior(features)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    log_q = torch.logsumexp(pairwise_log_normal(z, mean, log_var), -1) - math.log(len(x))
    log_p = -0.5 * (z.square() + LOG_TWO_PI).sum(-1)
    return (log_q - log_p).mean(-1)


def pairwise_log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log N(z_i; mean_j, exp(log_var_j)) of all pairs, (cells, n, n), by products in float64."""
    z, mean, precision = z.double(), mean.double(), torch.exp(-log_var.double())
    square = torch.matmul(z * z, precision.mT) - 2 * torch.matmul(z, (mean * precision).mT)
    own = (mean * mean * precision + log_var + LOG_TWO_PI).sum(-1)  # (cells, n)
    return -0.5 * (square + own.unsqueeze(1))


def chunks(x: Tensor, labels: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images (n, pixels) as (1, `size`, pixels), with labels (1, n, classes) cut alike."""
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        yield x[part].unsqueeze(0), None if labels is None else labels[:, part]
