"""What models see, what the numbers are called, and the order of minibatches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kexue_cli.errors import ConfigError
from kexue_cli.run.seeds import Seeds
from kexue_cli.tasks.common.images import Images, digits
from kexue_cli.tasks.vae.cells import Batches, Recipe, Temperature
from kexue_cli.tasks.vae.pixels import PixelView, evenly, protocol_for

CPU = torch.device("cpu")


def half(n: int = 4000) -> Images:
    return Images(np.full((n, 2, 2), 4, dtype=np.uint8), None, np.arange(n))


def test_dynamic_pixels_are_drawn_anew_with_the_probability_of_the_gray_level() -> None:
    view = PixelView(half(), 17, "dynamic", CPU)
    rows = torch.arange(4000)
    torch.manual_seed(0)
    first, second = view.batch(rows), view.batch(rows)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert float(first.mean()) == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(first, second)


def test_evaluation_and_fixed_pixels_never_change() -> None:
    for view in ("dynamic", "dequantised", "fixed"):
        pixels = PixelView(half(50), 17, view, CPU)
        torch.manual_seed(1)
        first = pixels.for_evaluation()
        torch.manual_seed(2)
        assert torch.equal(first, pixels.for_evaluation())
        assert torch.equal(first[evenly(50, 7)], pixels.for_evaluation(7))


def test_dequantised_pixels_stay_inside_their_level() -> None:
    shown = PixelView(half(), 17, "dequantised", CPU).for_evaluation()
    assert 4 / 17 <= float(shown.min()) < float(shown.max()) < 5 / 17


@pytest.mark.parametrize(
    ("view", "likelihood", "levels", "name", "is_likelihood"),
    [
        ("auto", "bernoulli", 256, "neg_elbo_dynamic", True),
        ("auto", "bernoulli", 2, "neg_elbo_static", True),
        ("gray", "bernoulli", 256, "gray_bce_plus_kl", False),
        ("fixed", "bernoulli", 256, "neg_elbo_fixed", True),
        ("auto", "gaussian", 256, "neg_elbo_density", True),
        ("dequantised", "gaussian", 256, "neg_elbo_dequantised", True),
        ("auto", "discretised_logistic", 256, "neg_elbo_discrete", True),
    ],
)
def test_numbers_of_different_protocol_have_different_names(
    view: str, likelihood: str, levels: int, name: str, is_likelihood: bool
) -> None:
    protocol = protocol_for(view, likelihood, levels, 784)
    assert protocol.name("neg_elbo") == name
    assert protocol.is_likelihood == is_likelihood


def test_a_density_of_dequantised_pixels_is_put_into_nats_of_gray_levels() -> None:
    assert protocol_for("dequantised", "gaussian", 256, 784).offset == pytest.approx(
        784 * np.log(256)
    )


@pytest.mark.parametrize(
    ("view", "likelihood"), [("dynamic", "gaussian"), ("dequantised", "bernoulli")]
)
def test_pixels_that_do_not_fit_the_likelihood_are_refused(view: str, likelihood: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.pixels"):
        protocol_for(view, likelihood, 256, 784)


def batches(rank: int = 0, ranks: int = 1) -> Batches:
    return Batches(Seeds(3), 10, 4, True, rank, ranks, CPU)


def test_an_epoch_takes_every_row_once_and_the_last_batch_is_short() -> None:
    epoch = list(itertools.islice(batches().starting(0), 3))
    assert [len(batch.rows) for batch in epoch] == [4, 4, 2]
    assert sorted(torch.cat([batch.rows for batch in epoch]).tolist()) == list(range(10))


def test_batches_from_any_step_on_are_those_of_the_whole_run() -> None:
    whole = list(itertools.islice(batches().starting(0), 12))
    for first in (1, 3, 7):
        later = next(batches().starting(first))
        assert torch.equal(later.rows, whole[first].rows)
        assert later.step == first


def test_ranks_share_every_batch_between_them() -> None:
    whole = next(batches().starting(0)).rows
    parts = [next(batches(rank, 2).starting(0)).rows for rank in range(2)]
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())


def test_temperature_and_warm_up_follow_their_formulas() -> None:
    heat = Temperature(1.0, 0.01, 0.999)
    tau = 1.0
    for step in range(50):
        assert heat.at(step) == pytest.approx(tau)
        tau = 0.01 + (tau - 0.01) * 0.999
    recipe = Recipe(beta=2.0, warmup_steps=4)
    assert [recipe.beta_at(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_digits_under_the_dynamic_view_keep_their_mean() -> None:
    images = digits()
    view = PixelView(images.test, images.levels, "dynamic", CPU)
    assert float(view.for_evaluation().mean()) == pytest.approx(
        images.test.pixels.mean() / 16, abs=0.01
    )
