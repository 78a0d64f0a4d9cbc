"""Schedules and optimisers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_cli.config import OptimConfig, Schedule
from kexue_cli.errors import ConfigError
from kexue_cli.train.ema import WeightAverage
from kexue_cli.train.optim import NAMES, lr_factor, make_optimizers, set_lr


def test_warm_up_then_cosine_down_to_the_final_fraction() -> None:
    optim = OptimConfig(schedule=Schedule.cosine, warmup_steps=4, final_lr_fraction=0.1)
    factors = [lr_factor(optim, step, 104) for step in range(105)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[54] == pytest.approx(0.1 + 0.9 * 0.5)
    assert factors[104] == pytest.approx(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_lowers_a_quadratic(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizers = make_optimizers(model, OptimConfig(name=name, lr=0.02))
    x = torch.randn(64, 4)
    losses = []
    for step in range(60):
        loss = (model(x) - 1).pow(2).mean()
        losses.append(loss.item())
        loss.backward()
        set_lr(optimizers, lr_factor(OptimConfig(), step, 60))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


def test_an_unknown_optimiser_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"optim\.name.*adamw.*'adm'"):
        make_optimizers(nn.Linear(1, 1), OptimConfig(name="adm"))


def test_a_weight_average_over_a_constant_is_that_constant() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(3.0)
    for _ in range(200):
        average.update()
    with average.applied():
        torch.testing.assert_close(model.weight, torch.full((2, 2), 3.0), rtol=0.02, atol=0)
    assert torch.equal(model.weight, torch.full((2, 2), 3.0))
