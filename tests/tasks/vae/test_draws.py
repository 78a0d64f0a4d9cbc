"""Draws made inside the kernels: their random numbers, and the log-weights of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kexue_cli.tasks.vae import dense, fused
from kexue_cli.tasks.vae.builders import Images, iwae_mlp
from kexue_cli.tasks.vae.model import Vae

pytestmark = pytest.mark.usefixtures("kernels")

PIXELS, LATENTS = 35, 70  # more latents than random numbers that are made together


def philox(counter: int, key: int) -> list[int]:
    """Philox 4x32-10 of Salmon et al. 2011; the counter is below 2^64."""
    low = 2**32 - 1
    c = [counter & low, counter >> 32, 0, 0]
    k = [key & low, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c


def box_muller(u: int, v: int) -> tuple[float, float]:
    length = np.sqrt(-2 * np.log((u + 0.5) / 2**32))
    turn = ((v << 2 & 0xFFFFFFFF) ^ 0x80000000) / 2**34 - 0.125  # the lower 30 bits, signed
    pair = np.array([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)])
    if v >> 30 & 1:
        pair = pair[::-1]
    first, second = (-length if v >> 31 else length) * pair
    return float(first), float(second)


def test_philox_has_the_words_of_its_authors_test_vectors() -> None:
    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize(("seed", "draws"), [(0, 1), (2**63 - 25, 9)])
def test_random_numbers_are_those_of_philox_and_box_muller(seed: int, draws: int) -> None:
    expected = np.empty((draws, 4, 16))
    for draw in range(draws):
        for lane in range(16):
            words = philox(16 * draw + lane, seed)
            expected[draw, :2, lane] = box_muller(*words[:2])
            expected[draw, 2:, lane] = box_muller(*words[2:])
    found = fused.normals(seed, draws, 64).numpy()
    np.testing.assert_allclose(found, expected.reshape(draws, 64), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("latents", [2, 50, 70])
def test_random_numbers_are_normal_and_none_is_used_twice(latents: int) -> None:
    count = 400_000 // latents * latents
    found, _ = fused.normals(12345, count // latents, latents).double().flatten().sort()
    below = torch.special.ndtr(found)
    distance = (below - (torch.arange(count) + 0.5) / count).abs().max()
    assert float(distance) < 1.63 / count**0.5  # Kolmogorov and Smirnov at 1 %
    assert int((found[1:] == found[:-1]).sum()) < 20_000  # float32 has only so many numbers
    assert float(found.abs().max()) > 4


def network(cells: int) -> Vae:
    images = Images((5, 7), 256, 0, np.full(PIXELS, 0.3))
    generators = [torch.Generator().manual_seed(cell) for cell in range(cells)]
    return iwae_mlp(images, generators, 1, LATENTS, [13, 9], 0, 0, False).use_native()


def drawn(model: Vae, x: Tensor, k: int, bfloat16: bool = False) -> Tensor:
    torch.manual_seed(3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        return model.log_weights(x, model.features(x), None, k)


def seed_of_drawn() -> int:
    torch.manual_seed(3)
    return int(torch.randint(2**63 - 1, ()))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(("cells", "images", "k"), [(1, 1, 1), (1, 3, 700), (3, 7, 5)])
def test_log_weights_are_those_of_the_same_draws_in_float64(
    cells: int, images: int, k: int, bfloat16: bool
) -> None:
    model, plain = network(cells), network(cells).double()
    x = (torch.rand(1, images, PIXELS, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    noise = fused.normals(seed_of_drawn(), cells * images * k, LATENTS)
    with torch.no_grad():
        expected = plain(x.double(), None, k, noise.view(cells, images, k, LATENTS).double())
    found = drawn(model, x, k, bfloat16)
    error = (found.double() - expected.log_weights).abs().max()
    assert float(error / expected.log_weights.abs().max()) < (5e-3 if bfloat16 else 2e-6)


def test_two_calls_draw_differently() -> None:
    model, x = network(1), torch.ones(1, 1, PIXELS)
    with torch.no_grad():
        first, second = (model.log_weights(x, model.features(x), None, 50) for _ in range(2))
    assert not bool((first == second).any())


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_changes_no_draw() -> None:
    model, x = network(3), torch.ones(1, 2, PIXELS)
    two = drawn(model, x, 900)
    torch.set_num_threads(1)
    assert torch.equal(two, drawn(model, x, 900))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_nan_goes_through_every_layer(activation: str, bfloat16: bool) -> None:
    weights = [torch.ones(1, 3, 5), torch.zeros(1, 1, 5), torch.ones(1, 5, 2), torch.zeros(1, 1, 2)]
    rows = torch.tensor([[[1.0, float("nan"), 0.0], [1.0, 2.0, 0.0]]])
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = dense.stack(rows, weights, activation, activation)
    assert found[0].isnan().tolist() == [[True, True], [False, False]]
