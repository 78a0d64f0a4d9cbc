"""Random changes of spectra do what they say and nothing else."""

import numpy as np
import pytest
import torch

from kexue_cli.tasks.lamost.augment import Augmentation, resample

X = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_without_strengths_nothing_changes() -> None:
    assert torch.equal(Augmentation()(X, generator()), X)


def test_the_same_generator_gives_the_same_changes() -> None:
    change = Augmentation(noise=0.1, scale=0.2, shift=3, stretch=0.1, flip=0.5, erase=0.2)
    assert torch.equal(change(X, generator()), change(X, generator()))
    assert not torch.equal(change(X, generator()), change(X, torch.Generator().manual_seed(2)))


def test_resampling_is_numpys_interpolation() -> None:
    factor, shift = torch.tensor([0.8, 1.25]), torch.tensor([3.3, -7.0])
    found = resample(X[:2].double(), factor.double(), shift.double()).numpy()
    points = np.arange(50.0)
    for row in range(2):
        place = (points - 24.5 - shift[row].item()) / factor[row].item() + 24.5
        wanted = np.interp(place, points, X[row].double().numpy())  # repeats the edges
        np.testing.assert_allclose(found[row], wanted, atol=1e-6)


def test_a_whole_shift_moves_points() -> None:
    moved = resample(X[:1], torch.ones(1), torch.tensor([2.0]))
    torch.testing.assert_close(moved[:, 2:], X[:1, :-2])
    assert (moved[:, :2] == X[:1, :1]).all()


def test_noise_is_relative_to_the_spread_of_each_spectrum() -> None:
    scaled = X * torch.logspace(-2, 2, 200)[:, None]
    added = Augmentation(noise=0.5)(scaled, generator()) - scaled
    ratio = added.std(dim=1) / scaled.std(dim=1)
    assert ratio.mean().item() == pytest.approx(0.5, rel=0.03)


def test_scale_stays_within_its_bounds_and_keeps_the_shape() -> None:
    factor = Augmentation(scale=0.3)(X, generator()) / X
    assert torch.allclose(factor, factor[:, :1], rtol=1e-4)
    assert np.exp(-0.3) - 1e-4 <= factor.min() < 0.8
    assert 1.25 < factor.max() <= np.exp(0.3) + 1e-4


def test_flips_the_given_share() -> None:
    signs = (Augmentation(flip=0.25)(X, generator()) / X).mean(dim=1)
    assert set(signs.tolist()) == {1.0, -1.0}
    assert (signs < 0).float().mean().item() == pytest.approx(0.25, abs=0.1)


def test_erases_one_piece_up_to_the_given_length() -> None:
    changed = Augmentation(erase=0.4)(X, generator()) != X
    assert 10 < changed.sum(dim=1).max() <= 21
    starts = (changed[:, 1:] & ~changed[:, :-1]).sum(dim=1) + changed[:, 0]
    assert (starts <= 1).all()
