"""The compiled dense layers and the fused auto-encoder against plain torch in float64."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kexue_cli.native.build import NotAvailable
from kexue_cli.tasks.vae import dense, objectives
from kexue_cli.tasks.vae.builders import Images, iwae_mlp, vae_mlp
from kexue_cli.tasks.vae.model import Terms, Vae

pytestmark = pytest.mark.usefixtures("kernels")

FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda x: x}
SHAPES = [  # cells, sizes, images, k, activation
    (1, (50, 200, 200, 784), 20, 13, "tanh"),  # Burda et al.'s decoder; 260 rows
    (3, (5, 33, 17, 65), 37, 1, "tanh"),  # nothing a multiple of 16
    (2, (7, 30, 2000), 3, 200, "relu"),  # more pixels than factors fit a double; two shares
    (1, (50, 200, 200, 64), 60, 5, "tanh"),  # fewer pixels than the hidden layers have units
    (1, (4, 9), 1, 1, "tanh"),  # no hidden layer, one row
]


def parameters_of(cells: int, sizes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    made = []
    for inputs, outputs in pairwise(sizes):
        made.append(torch.randn(cells, inputs, outputs) / inputs**0.5)
        made.append(torch.randn(cells, 1, outputs) * 0.1)
    return [tensor.requires_grad_() for tensor in made]


def reference(rows: Tensor, parameters: list[Tensor], activation: str, last: str) -> Tensor:
    found = rows.double()
    for layer in range(len(parameters) // 2):
        weight, bias = (p.double() for p in parameters[2 * layer : 2 * layer + 2])
        name = last if 2 * layer + 2 == len(parameters) else activation
        found = FUNCTIONS[name](found @ weight + bias)
    return found


def reference_likelihood(
    z: Tensor, x: Tensor, k: int, parameters: list[Tensor], activation: str
) -> Tensor:
    logits = reference(z, parameters, activation, "linear")
    pixels = x.double().repeat_interleave(k, 1)
    return -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, pixels.expand_as(logits), reduction="none"
    ).sum(-1)


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    wide = expected.detach().double()
    error = (found.detach().double() - wide).abs().max() / wide.abs().max()
    assert float(error) < tolerance


@pytest.mark.parametrize(("cells", "sizes", "images", "k", "activation"), SHAPES)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_likelihood_and_its_gradients_equal_the_formula(
    cells: int, sizes: tuple[int, ...], images: int, k: int, activation: str, bfloat16: bool
) -> None:
    weights = parameters_of(cells, sizes)
    z = torch.randn(cells, images * k, sizes[0], requires_grad=True)
    x = (torch.rand(1, images, sizes[-1]) > 0.7).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = dense.bernoulli_log_likelihood(z, x, k, weights, activation)
    expected = reference_likelihood(z, x, k, weights, activation)
    assert_near(found, expected, 3e-3 if bfloat16 else 1e-6)
    if bfloat16 and activation == "relu":
        return  # a sum that rounds to the other side of 0 changes its gradient by all of it
    factors = torch.randn_like(found)
    ours = torch.autograd.grad((found * factors).sum(), [z, *weights])
    theirs = torch.autograd.grad((expected * factors).sum(), [z, *weights])
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a, b, 3e-2 if bfloat16 else 1e-5)


@pytest.mark.parametrize(("cells", "sizes", "images", "k", "activation"), SHAPES)
def test_bfloat16_in_vector_registers_equals_that_in_tile_registers(
    monkeypatch: pytest.MonkeyPatch,
    cells: int,
    sizes: tuple[int, ...],
    images: int,
    k: int,
    activation: str,
) -> None:
    if dense.bfloat16_format() != dense.IN_TILES:
        pytest.skip("no tile registers here")
    weights = parameters_of(cells, sizes)
    z = torch.randn(cells, images * k, sizes[0], requires_grad=True)
    x = (torch.rand(1, images, sizes[-1]) > 0.7).float()
    found = []
    for number_format in (dense.IN_TILES, dense.IN_VECTORS):
        monkeypatch.setattr(dense, "bfloat16_format", lambda chosen=number_format: chosen)
        with torch.autocast("cpu", torch.bfloat16):
            value = dense.bernoulli_log_likelihood(z, x, k, weights, activation)
        found.append([value, *torch.autograd.grad(value.sum(), [z, *weights])])
    for tiles, vectors in zip(*found, strict=True):
        assert_near(tiles, vectors, 2e-3)  # sums in another order, rounded to 8 bits between layers


@pytest.mark.parametrize("bfloat16", [False, True])
def test_numbers_too_small_for_float32_count_as_zero_in_the_kernels_alone(bfloat16: bool) -> None:
    weights = parameters_of(1, (5, 33, 17))
    z = torch.randn(1, 30, 5, requires_grad=True)
    x = (torch.rand(1, 30, 17) > 0.7).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = dense.bernoulli_log_likelihood(z, x, 1, weights, "tanh")
    tiny = torch.full_like(found, 1e-40)
    before = float(tiny[0, 0] * 1)
    (gradient,) = torch.autograd.grad((found * tiny).sum(), [z])
    assert float(gradient.abs().max()) == 0
    assert float(tiny[0, 0] * 1) == before


@pytest.mark.parametrize("last", ["linear", "tanh", "relu"])
def test_stacks_and_their_gradients_equal_torch(last: str) -> None:
    weights = parameters_of(2, (5, 33, 17))
    x = torch.randn(1, 500, 5, requires_grad=True)  # shared by the cells; two shares of rows
    found = dense.stack(x, weights, "tanh", last)
    expected = reference(x, weights, "tanh", last)
    assert_near(found, expected, 1e-6)
    factors = torch.randn_like(found)
    ours = torch.autograd.grad((found * factors).sum(), [x, *weights])
    theirs = torch.autograd.grad((expected * factors).sum(), [x, *weights])
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a, b, 1e-5)


def test_extreme_logits_stay_finite() -> None:
    weight, bias = torch.zeros(1, 1, 3), torch.tensor([[[500.0, -500.0, 0.0]]])
    found = dense.bernoulli_log_likelihood(
        torch.zeros(1, 2, 1),
        torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]),
        1,
        [weight, bias],
        "tanh",
    )
    assert found[0].tolist() == pytest.approx([-np.log(2), -500 - np.log(2)])


def gradients(cells: int) -> list[Tensor]:
    weights = parameters_of(cells, (5, 33, 65))
    z = torch.randn(cells, 1200, 5, generator=torch.Generator().manual_seed(1))
    x = (torch.rand(1, 12, 65, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    found = dense.bernoulli_log_likelihood(z, x, 100, weights, "tanh")
    return [found, *torch.autograd.grad(found.sum(), weights)]


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_changes_no_bit() -> None:
    two = gradients(3)
    torch.set_num_threads(1)
    for a, b in zip(two, gradients(3), strict=True):
        assert torch.equal(a, b)


def network(cells: int) -> Vae:
    images = Images((5, 7), 256, 0, np.full(35, 0.3))
    generators = [torch.Generator().manual_seed(cell) for cell in range(cells)]
    model = vae_mlp(
        images, generators, 4, [13, 9], "tanh", "bernoulli", "fixed", 1.0, 1.0, log_sigma=True
    )
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


BOUNDS: dict[str, Any] = {
    "iwae": objectives.iwae_bound,
    "elbo": objectives.beta_elbo,
    "sampled": lambda terms: objectives.beta_elbo(terms, "sampled", 0.5),
    "two_penalties": lambda terms: objectives.two_penalties(terms, 0.3),
    "weights and parts": lambda terms: (
        objectives.iwae_bound(terms)
        + 0.3 * (terms.log_likelihood - 2 * terms.log_prior + terms.log_posterior).mean(-1)
        + terms.draw.log_var.sum(-1)
    ),
    "of_q": lambda terms: (terms.draw.mean.cos() + terms.draw.log_var.sin()).sum(-1),
    "of_z": lambda terms: terms.draw.z.sin().sum((-1, -2)) + terms.log_prior.sum(-1),
}


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("cells", "k"), [(1, 1), (3, 6)])
def test_the_fused_network_has_the_bounds_and_gradients_of_the_plain_one(
    bound: str, cells: int, k: int
) -> None:
    plain, native = network(cells).double(), network(cells).use_native()
    x, noise = (torch.rand(1, 11, 35) > 0.6).float(), torch.randn(cells, 11, k, 4)
    expected: Terms = plain(x.double(), None, k, noise.double())
    found: Terms = native(x, None, k, noise)
    a, b = BOUNDS[bound](found), BOUNDS[bound](expected)
    assert_near(a, b, 1e-5)
    factors = torch.rand_like(a)
    ours = torch.autograd.grad((a * factors).sum(), list(native.parameters()), allow_unused=True)
    theirs = torch.autograd.grad((b * factors).sum(), list(plain.parameters()), allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert_near(one, other, 1e-4)


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-4), (True, 3e-2)])
def test_with_fifty_draws_the_gradient_is_that_of_float64(bfloat16: bool, tolerance: float) -> None:
    images = Images((28, 28), 256, 0, np.full(784, 0.13))

    def gradient(model: Vae, x: Tensor, noise: Tensor) -> Tensor:
        bound = objectives.iwae_bound(model(x, None, 50, noise)).mean()
        found = torch.autograd.grad(bound, list(model.parameters()))
        return torch.cat([g.double().flatten() for g in found])

    plain, native = (
        iwae_mlp(images, [torch.Generator().manual_seed(0)], 1, 50, [200, 200], 0, 0, False)
        for _ in range(2)
    )
    torch.manual_seed(1)
    x, noise = (torch.rand(1, 20, 784) > 0.8).float(), torch.randn(1, 20, 50, 50)
    expected = gradient(plain.double(), x.double(), noise.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = gradient(native.use_native(), x, noise)
    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_log_weights_are_the_sum_of_their_parts_to_the_last_bit() -> None:
    terms = network(2).use_native()((torch.rand(1, 11, 35) > 0.6).float(), None, 3)
    assert torch.equal(
        terms.log_weights, terms.log_likelihood + terms.log_prior - terms.log_posterior
    )


def test_a_log_variance_out_of_range_is_cut_and_has_no_gradient() -> None:
    model = network(1).use_native()
    latent: Any = model.latent
    bias = latent.log_var.bias
    with torch.no_grad():
        bias[0, 0, :2] = torch.tensor([500.0, -500.0])
    terms = model((torch.rand(1, 11, 35) > 0.6).float(), None, 2)
    assert terms.draw.log_var.amax() == 20
    assert terms.draw.log_var.amin() == -30
    terms.draw.log_var.sum().backward()
    assert bias.grad is not None
    assert bias.grad[0, 0].tolist() == [0, 0, 22, 22]  # 11 images, log_var = 2 log sigma


def of_the_whole(cells: int) -> list[Tensor]:
    model = network(cells).use_native()
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(1, 30, 35, generator=generator) > 0.6).float()
    noise = torch.randn(cells, 30, 200, 4, generator=generator)
    bound = objectives.iwae_bound(model(x, None, 200, noise))
    return [bound, *torch.autograd.grad(bound.sum(), list(model.parameters()))]


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_changes_no_bit_of_the_fused_network() -> None:
    two = of_the_whole(3)
    torch.set_num_threads(1)
    for a, b in zip(two, of_the_whole(3), strict=True):
        assert torch.equal(a, b)


def test_without_a_compiler_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NotAvailable("no C++ compiler (g++ or clang++) was found")

    monkeypatch.setattr(dense, "library", missing)
    assert "no C++ compiler" in str(dense.obstacle())


@pytest.mark.parametrize("used", [False, True])
def test_a_graph_goes_with_its_last_result(used: bool) -> None:
    model = network(1).use_native()
    rows, x = torch.rand(1, 11, 35), (torch.rand(1, 11, 35) > 0.6).float()
    likelihood = model(x).log_likelihood
    encoded = model.encoder(rows)
    nodes = [weakref.ref(result.grad_fn) for result in (likelihood, encoded)]
    if used:
        (likelihood.sum() + encoded.sum()).backward()
    del likelihood, encoded
    gc.collect()
    assert [node() for node in nodes] == [None, None]
