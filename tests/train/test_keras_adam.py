"""Keras' Adam against traces of Keras itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.config import OptimConfig
from kexue_cli.train.keras_adam import KerasAdam
from kexue_cli.train.optim import make_optimizers

STEPS = 20


def follow(optimizer, p, matrix, b):
    trace = [p.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * p @ matrix @ p - b @ p).backward()
        optimizer.step()
        trace.append(p.detach().clone())
    return torch.stack(trace).double().numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-8)])
def test_follows_keras_traces(data_dir: Path, dtype, tolerance) -> None:
    folder = data_dir / "keras_reference" / "optimizers"
    traces = np.load(folder / "traces.npz")
    wanted = np.load(folder / "traces_float64.npz")["float64/adam/params"]
    p = torch.tensor(traces["in/start"], dtype=dtype, requires_grad=True)
    matrix, b = (torch.tensor(traces[f"in/{name}"], dtype=dtype) for name in "Ab")
    optimizer = KerasAdam([p], lr=float(traces["config/lr"]), eps=1e-7)
    found = follow(optimizer, p, matrix, b)
    # float64 traces are stored as float32
    assert np.abs(found - wanted).max() <= max(tolerance, 2e-7) * np.abs(wanted).max()


def test_matches_the_formula_written_out_in_numpy() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(STEPS, 5)) * 10.0 ** np.array([0, -3, -6, -7, -8])
    p = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = KerasAdam([p], lr=0.01, eps=1e-7, fused=True)
    wanted, m, v = np.zeros(5), np.zeros(5), np.zeros(5)
    for t, gradient in enumerate(gradients, start=1):
        p.grad = torch.tensor(gradient)
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        wanted -= rate * m / (np.sqrt(v) + 1e-7)
    np.testing.assert_allclose(p.detach().numpy(), wanted, rtol=1e-10)


def test_goes_on_from_its_saved_state_bit_for_bit() -> None:
    def run(n_before: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        gradients = torch.randn(10, 1, 3)
        optim = OptimConfig(name="keras_adam", eps=1e-7)
        (optimizer,) = make_optimizers(model, optim)
        for i, gradient in enumerate(gradients):
            if i == n_before:
                state = optimizer.state_dict()
                (optimizer,) = make_optimizers(model, optim)
                optimizer.load_state_dict(state)
            model.weight.grad = gradient.clone() * 1e-7
            optimizer.step()
        return model.weight.detach().clone()

    assert torch.equal(run(4), run(99))
