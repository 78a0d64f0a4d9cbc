"""Bounds, likelihoods and densities against answers known in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal, kl_divergence

from kexue_cli.tasks.common.images import idx_images, unit_interval
from kexue_cli.tasks.vae.builders import Images, vae_linear, vae_mlp
from kexue_cli.tasks.vae.evaluation import (
    aggregate_kl,
    elbo_numbers,
    likelihood_numbers,
    pairwise_log_normal,
)
from kexue_cli.tasks.vae.latents import GaussianLatent, gaussian_kl
from kexue_cli.tasks.vae.likelihoods import (
    Gaussian,
    bernoulli_log_prob,
    continuous_bernoulli_log_normaliser,
    continuous_bernoulli_mean,
    discretised_logistic_log_prob,
)
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.objectives import (
    beta_elbo,
    doubly_reparameterised,
    iwae_bound,
    prior_sampling,
    score_function,
)
from kexue_cli.tasks.vae.sphere import SphereLatent


def generators(n: int = 1) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def images(side: int) -> Images:
    return Images((side, side), 256, 0, np.full(side * side, 0.3))


def small(latent: int = 2, side: int = 3, cells: int = 1) -> Vae:
    bernoulli = ("bernoulli", "fixed", 1.0, 0.01)
    return vae_mlp(images(side), generators(cells), latent, [8], "tanh", *bernoulli).double()


def binary(n: int, pixels: int) -> Tensor:
    return (torch.rand(1, n, pixels, generator=generators()[0]) > 0.6).double()


def probabilistic_pca(x: Tensor, latents: int, sigma2: float) -> tuple[Vae, float]:
    """The linear model at its optimum for x (n, pixels), and the exact mean log-likelihood, fixed
    sigma^2.
    """
    side = math.isqrt(x.shape[1])
    model = vae_linear(images(side), generators(), latents, "fixed", math.sqrt(sigma2)).double()
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:latents], vectors.flip(1)[:, :latents]
    w = vectors * (values - sigma2).clamp_min(0).sqrt()  # (pixels, latents); Tipping, Bishop 1999
    m = (w * w).sum(0) + sigma2  # diagonal: the columns are orthogonal
    with torch.no_grad():
        assert isinstance(model.likelihood, Gaussian)
        model.likelihood.log_sigma.fill_(0.5 * math.log(sigma2))  # to all digits of float64
        last = cast("Any", model.decoder).last
        last.weight[0], last.bias[0, 0] = w.T, mean
        assert isinstance(model.latent, GaussianLatent)
        model.latent.mean.weight[0] = w / m
        model.latent.mean.bias[0, 0] = -(mean @ (w / m))
        model.latent.log_var.weight.zero_()
        model.latent.log_var.bias[0, 0] = torch.log(sigma2 / m)
    whole = w @ w.T + sigma2 * torch.eye(len(mean), dtype=torch.float64)
    exact = -0.5 * (
        len(mean) * math.log(2 * math.pi)
        + float(torch.logdet(whole))
        + float(torch.trace(torch.linalg.solve(whole, covariance)))
    )
    return model, exact


def test_linear_model_at_its_optimum_is_probabilistic_pca() -> None:
    x = torch.rand(200, 9, generator=generators()[0], dtype=torch.float64)
    model, exact = probabilistic_pca(x, 4, 0.03)
    terms = model(x.unsqueeze(0), None, 7)
    spread = terms.log_weights.std(-1)
    assert (
        float(spread.detach().max()) < 1e-8
    )  # the posterior is exact: every draw has the weight p(x)
    assert float(beta_elbo(terms).mean().detach()) == pytest.approx(
        exact, abs=0.3
    )  # closed KL, drawn rec.
    assert float(iwae_bound(terms).mean().detach()) == pytest.approx(exact, abs=1e-9)


def test_importance_sampling_is_exact_where_the_posterior_is_however_it_is_chunked() -> None:
    x = torch.rand(50, 9, generator=generators()[0], dtype=torch.float64)
    model, exact = probabilistic_pca(x, 3, 0.05)
    for rows in (3, 7, 64, 1000):
        found = likelihood_numbers(model, x, None, 20, [5], rows)
        assert float(found["nll_is20"].mean()) == pytest.approx(-exact, abs=1e-5)
        assert float(found["neg_bound_k5"].mean()) == pytest.approx(-exact, abs=1e-5)
        np.testing.assert_allclose(found["ess"], 20, rtol=1e-5)


def test_mnist_with_unit_sigma_keeps_twelve_latents_and_reaches_minus_743(data_dir: Path) -> None:
    pixels = idx_images("mnist", data_dir / "mnist", valid_size=1)
    every = np.concatenate([pixels.train.pixels, pixels.valid.pixels]).reshape(60000, 784)
    x = torch.from_numpy(unit_interval(every, 256)).double()
    model, exact = probabilistic_pca(x, 20, 1.0)
    assert exact == pytest.approx(-743.186, abs=5e-4)
    torch.manual_seed(0)
    found = elbo_numbers(model, x[::20], None)
    assert int(found["active_units"]) == 12
    assert float(found["neg_elbo"]) == pytest.approx(743.186, abs=1.0)  # 3,000 of the images


def test_probabilistic_pca_is_a_stationary_point_of_the_linear_model() -> None:
    x = torch.rand(200, 9, generator=generators()[0], dtype=torch.float64)
    model, _ = probabilistic_pca(x, 3, 0.05)
    parameters = list(model.decoder.parameters())

    def gradient() -> Tensor:
        torch.manual_seed(0)
        loss = beta_elbo(model(x.unsqueeze(0), None, 500), kl="sampled").mean()
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)])

    at_optimum = float(gradient().abs().max())
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert at_optimum < 0.02 * float(gradient().abs().max())


def test_importance_sampling_and_bounds_against_integration_on_a_grid() -> None:
    model, x = small(), binary(6, 9)
    assert isinstance(model.latent, GaussianLatent)
    with torch.no_grad():
        model.latent.log_var.bias.add_(1.0)  # wider than the posterior: bounded weights
    ticks = torch.linspace(-7, 7, 281, dtype=torch.float64)
    z = torch.cartesian_prod(ticks, ticks)
    log_p = model.likelihood.log_prob(
        model.decode(z.view(1, 1, -1, 2).expand(1, 6, -1, -1)), x
    ) - 0.5 * (z.square().sum(-1) + 2 * math.log(2 * math.pi))
    exact = torch.logsumexp(log_p, -1)[0] + 2 * math.log(float(ticks[1] - ticks[0]))
    torch.manual_seed(1)
    with torch.no_grad():
        found = likelihood_numbers(model, x[0], None, 20000, [1, 5, 50], rows=5000)
    np.testing.assert_allclose(-found["nll_is20000"][0], exact.detach(), atol=0.03)
    bounds = [float(-found[f"neg_bound_k{k}"].mean()) for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] < float(exact.detach().mean()) + 0.01


def test_iwae_with_one_draw_is_the_sampled_vae_bit_for_bit() -> None:
    model, x = small().float(), binary(5, 9).float()
    noise = torch.randn(1, 5, 1, 2)
    terms = model(x, None, 1, noise)
    assert torch.equal(iwae_bound(terms), beta_elbo(terms, kl="sampled"))


def test_gray_cross_entropy_has_the_known_floor_on_mnist(
    data_dir: Path,
) -> None:
    pixels = idx_images("mnist", data_dir / "mnist", valid_size=1).test.pixels
    x = torch.from_numpy(unit_interval(pixels, 256)).reshape(len(pixels), -1)
    total = 0.0
    for part in x.split(10000):
        logits = torch.logit(part, eps=1e-7)
        total -= float(bernoulli_log_prob(logits.view(1, len(part), 1, -1), part[None]).sum())
    assert total / len(x) == pytest.approx(45.534, abs=1e-3)


def test_bernoulli_and_its_gradient_agree_with_torch_also_for_huge_logits() -> None:
    logits = torch.linspace(-200, 200, 40).view(1, 1, 2, 20).requires_grad_()
    x = (torch.arange(20) % 2).float().view(1, 1, 20)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, x.unsqueeze(2).expand_as(logits), reduction="none"
    ).sum(-1)
    np.testing.assert_allclose(bernoulli_log_prob(logits, x).detach(), expected.detach(), rtol=1e-6)
    ours = torch.autograd.grad(bernoulli_log_prob(logits, x).sum(), logits)[0]
    theirs = torch.autograd.grad(expected.sum(), logits)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_continuous_bernoulli_is_the_density_of_torch() -> None:
    logits = torch.tensor([-9.0, -2.0, -0.31, -0.29, -1e-3, 0.0, 0.2, 0.31, 4.0]).double()
    reference = TorchContinuousBernoulli(logits=logits)
    x = torch.full_like(logits, 0.37)
    ours = x * logits - torch.nn.functional.softplus(logits)
    ours = ours + continuous_bernoulli_log_normaliser(logits)
    np.testing.assert_allclose(ours, reference.log_prob(x), atol=2e-6)
    grid = torch.linspace(0, 1, 20001, dtype=torch.float64)
    density = torch.exp(
        grid * 1.7
        - math.log1p(math.exp(1.7))
        + continuous_bernoulli_log_normaliser(torch.tensor(1.7))
    )
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-6)
    mean = float(torch.trapezoid(density * grid, grid))
    assert float(continuous_bernoulli_mean(torch.tensor(1.7))) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("scale", [-7.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretised_logistic_sums_to_one(levels: int, scale: float) -> None:
    x = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    mean = torch.tensor(0.31, dtype=torch.float64)
    log_p = discretised_logistic_log_prob(x, mean, torch.tensor(scale).double(), levels)
    assert float(torch.logsumexp(log_p, 0)) == pytest.approx(0, abs=1e-9)


def test_optimal_sigma_is_the_best_fixed_one() -> None:
    x, outputs = torch.rand(1, 6, 9), torch.randn(1, 6, 1, 9)
    optimal = Gaussian(1, "optimal", 1.0, 0.01, squash=True)
    best = float(optimal.log_prob(outputs, x).sum())
    for sigma in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0):
        fixed = Gaussian(1, "fixed", sigma, 0.01, squash=True)
        assert float(fixed.log_prob(outputs, x).sum()) <= best + 1e-4


def test_sigma_per_pixel_stays_above_its_floor() -> None:
    head = Gaussian(1, "pixel", 1.0, 0.05, squash=False)
    x, outputs = torch.zeros(1, 1, 4), torch.cat([torch.zeros(4), torch.full((4,), -100.0)])
    log_p = float(head.log_prob(outputs.view(1, 1, 1, 8), x))
    assert log_p == pytest.approx(
        4 * float(Normal(0.0, 0.05).log_prob(torch.tensor(0.0))), rel=1e-5
    )


def test_kl_parts_add_up_to_the_kl_of_torch() -> None:
    mean, log_var, prior = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5)
    parts = gaussian_kl(mean, log_var, prior)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * log_var)), Normal(prior, 1.0))
    np.testing.assert_allclose(parts[0] + parts[1], expected, atol=1e-5)


def test_sphere_kl_is_the_mean_log_ratio_and_draws_have_the_right_length() -> None:
    torch.manual_seed(0)
    latent = SphereLatent(generators(), 3, 5, 20.0).double()
    draw = latent.draw(torch.randn(1, 4, 3, dtype=torch.float64), None, 20000)
    np.testing.assert_allclose(draw.z.norm(dim=-1).detach(), 1, atol=1e-6)
    ratio = (draw.log_posterior - draw.log_prior).mean(-1)
    assert draw.kl is not None
    np.testing.assert_allclose(ratio.detach(), draw.kl[..., 0], atol=0.05)


def test_aggregate_kl_vanishes_for_a_posterior_that_is_the_prior_and_pairs_match_torch() -> None:
    torch.manual_seed(0)
    model = small()
    assert isinstance(model.latent, GaussianLatent)
    x = binary(300, 9)[0]
    with torch.no_grad():
        model.latent.mean.weight.zero_()
        model.latent.log_var.weight.zero_()
    assert float(aggregate_kl(model, x, None)) == pytest.approx(0, abs=1e-9)
    z, mean, log_var = torch.randn(1, 4, 2), torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    expected = Normal(mean[:, None], torch.exp(0.5 * log_var[:, None])).log_prob(z[:, :, None])
    np.testing.assert_allclose(pairwise_log_normal(z, mean, log_var), expected.sum(-1), atol=1e-5)


def encoder_gradient(loss: Tensor, model: Vae) -> Tensor:
    found = torch.autograd.grad(loss, list(model.encoder.parameters()))
    return torch.cat([g.reshape(-1) for g in found])


def test_sticking_the_landing_has_no_gradient_at_the_exact_posterior() -> None:
    x = torch.rand(1, 20, 9, generator=generators()[0], dtype=torch.float64)
    model, _ = probabilistic_pca(x[0], 3, 0.05)
    assert isinstance(model.latent, GaussianLatent)
    parameters = [model.latent.mean.weight, model.latent.log_var.weight]
    sampled = torch.autograd.grad(beta_elbo(model(x, None, 1), "sampled").sum(), parameters)
    landing = torch.autograd.grad(
        beta_elbo(model(x, None, 1, frozen=True), "stl").sum(), parameters
    )
    assert float(sampled[0].abs().max()) > 1e-3
    assert max(float(g.abs().max()) for g in landing) < 1e-8


def test_dreg_has_the_mean_of_the_iwae_gradient_for_the_encoder() -> None:
    torch.manual_seed(0)
    model, x = small(), binary(1, 9)
    many, k = 20000, 3
    copies = x.expand(1, many, 9)
    plain = encoder_gradient(iwae_bound(model(copies, None, k)).mean(), model)
    dreg = encoder_gradient(doubly_reparameterised(model, copies, None, k).mean(), model)
    scale = float(dreg.abs().max())
    np.testing.assert_allclose(plain / scale, dreg / scale, atol=0.06)


def test_dreg_leaves_value_and_decoder_gradient_of_the_iwae_alone() -> None:
    model, x = small(), binary(4, 9)
    noise = torch.randn(1, 4, 6, 2, dtype=torch.float64)
    parameters = list(model.decoder.parameters())
    plain, dreg = (
        iwae_bound(model(x, None, 6, noise)),
        doubly_reparameterised(model, x, None, 6, noise),
    )
    np.testing.assert_allclose(plain.detach(), dreg.detach(), atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(plain.sum(), parameters),
        torch.autograd.grad(dreg.sum(), parameters),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize(("baseline", "close"), [(False, 0.25), (True, 0.1)])
def test_reinforce_has_the_mean_of_the_reparameterised_gradient(
    baseline: bool, close: float
) -> None:
    torch.manual_seed(0)
    model, x = small(), binary(1, 9)
    copies = x.expand(1, 100_000, 9)
    path = encoder_gradient(beta_elbo(model(copies)).mean(), model)
    score = encoder_gradient(score_function(model, copies, 1, baseline).mean(), model)
    scale = float(path.abs().max())
    np.testing.assert_allclose(score / scale, path / scale, atol=close)


def test_prior_sampling_is_the_plain_average_of_likelihoods() -> None:
    model, x = small(), binary(4, 9)
    torch.manual_seed(3)
    ours = prior_sampling(model, x, 11)
    torch.manual_seed(3)
    z = model.latent.prior_draw(1, 11, None)
    log_p = model.likelihood.log_prob(model.decode(z.unsqueeze(1).expand(1, 4, 11, 2)), x)
    expected = torch.logsumexp(log_p, -1) - math.log(11)
    np.testing.assert_allclose(ours.detach(), expected.detach(), atol=1e-10)


def test_free_bits_cost_nothing_below_and_the_kl_above() -> None:
    model, x = small(), binary(5, 9)
    noise = torch.randn(1, 5, 1, 2, dtype=torch.float64)
    terms = model(x, None, 1, noise)
    generous = beta_elbo(terms, free_bits=100.0)
    np.testing.assert_allclose(generous.detach(), (terms.log_likelihood.mean(-1) - 200).detach())
    np.testing.assert_allclose(
        beta_elbo(terms, free_bits=1e-9).mean().detach(),
        beta_elbo(terms).mean().detach(),
        rtol=1e-9,
    )


def test_a_cell_of_a_batched_model_is_the_same_model_alone() -> None:
    together, x = small(cells=3), binary(4, 9)
    noise = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    bound = iwae_bound(together(x, None, 2, noise))
    bound.sum().backward()
    for cell in range(3):
        alone = vae_mlp(
            images(3),
            [torch.Generator().manual_seed(cell)],
            2,
            [8],
            "tanh",
            "bernoulli",
            "fixed",
            1.0,
            0.01,
        ).double()
        own = iwae_bound(alone(x, None, 2, noise[cell : cell + 1]))
        own.sum().backward()
        np.testing.assert_allclose(own[0].detach(), bound[cell].detach(), atol=1e-12)
        for a, b in zip(alone.parameters(), together.parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            np.testing.assert_allclose(a.grad[0], b.grad[cell], atol=1e-12)
