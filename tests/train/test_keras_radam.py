"""RAdam and the debiased weight average against traces of the Keras originals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.config import OptimConfig
from kexue_cli.train.ema import WeightAverage
from kexue_cli.train.keras_radam import KerasRAdam, rectification
from kexue_cli.train.optim import make_optimizers

STEPS = 20


@pytest.mark.parametrize("name", ["radam", "radam_switch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_follows_keras_traces(data_dir: Path, name: str, dtype: torch.dtype) -> None:
    folder = data_dir / "keras_reference" / "optimizers"
    traces = np.load(folder / "traces.npz")
    wanted = np.load(folder / "traces_float64.npz")[f"float64/{name}/params"]
    switch = int(traces["config/switch_before_step"]) if name == "radam_switch" else STEPS
    p = torch.tensor(traces["in/start"], dtype=dtype, requires_grad=True)
    matrix, b = (torch.tensor(traces[f"in/{part}"], dtype=dtype) for part in "Ab")
    optimizer = KerasRAdam([p], lr=float(traces["config/lr"]), eps=1e-7)
    found = [p.detach().double().numpy().copy()]
    for step in range(STEPS):
        if step == switch:
            optimizer = KerasRAdam([p], lr=float(traces["config/lr_second_stage"]), eps=1e-7)
        optimizer.zero_grad()
        (0.5 * p @ matrix @ p - b @ p).backward()
        optimizer.step()
        found.append(p.detach().double().numpy().copy())
    tolerance = 2e-6 if dtype is torch.float32 else 2e-7
    assert np.abs(np.stack(found) - wanted).max() <= tolerance * np.abs(wanted).max()


def test_rectification_is_that_of_the_traces(data_dir: Path) -> None:
    wanted = np.load(data_dir / "keras_reference" / "optimizers" / "traces.npz")
    for t, (_, factor, flag) in enumerate(wanted["radam/schedule_float64"], start=1):
        found = rectification(t, 0.999)
        assert (found is not None) == bool(flag)
        if found is not None:
            assert found == pytest.approx(float(factor), rel=1e-6)


def test_goes_on_from_its_saved_state_bit_for_bit() -> None:
    def run(n_before: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optim = OptimConfig(name="keras_radam", eps=1e-7, weight_decay=0.1)
        (optimizer,) = make_optimizers(model, optim)
        for i, gradient in enumerate(torch.randn(10, 1, 3)):
            if i == n_before:
                state = optimizer.state_dict()
                (optimizer,) = make_optimizers(model, optim)
                optimizer.load_state_dict(state)
            model.weight.grad = gradient.clone()
            optimizer.step()
        return model.weight.detach().clone()

    assert torch.equal(run(6), run(99))


def test_debiased_average_follows_the_keras_trace(data_dir: Path) -> None:
    traces = np.load(data_dir / "keras_reference" / "optimizers" / "traces.npz")
    rows = torch.tensor(traces["ema/input_weights"])
    module = torch.nn.Linear(rows.shape[1], 1, bias=False)
    module.weight.data[0] = rows[0]
    average = WeightAverage(module, float(traces["config/ema_momentum"]), debiased=True)
    wanted = torch.tensor(traces["ema/keras224_zero_debias"])
    for row, expected in zip(rows[1:], wanted[1:], strict=True):
        module.weight.data[0] = row
        average.update()
        with average.applied():
            found = module.weight.detach()[0].clone()
        assert (found - expected).abs().max() <= 2e-6 * wanted.abs().max()
