"""The native Adam against torch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kexue_cli.train import native_adam
from kexue_cli.train.native_adam import NativeAdam

VARIANTS: dict[str, dict[str, Any]] = {
    "adam": {"eps": 1e-4},
    "short memory": {"betas": (0.3, 0.9)},
    "decay in the gradient": {"weight_decay": 0.01},
    "adamw": {"weight_decay": 0.01, "decoupled_weight_decay": True},
}
WHOLE, ODD = [(64, 48), (320,)], [(7, 9), (1,), (20001,)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # torch's last few numbers of a thread's share are rounded otherwise
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _kernel() -> None:
    if not native_adam.available():
        pytest.skip("no native kernel here")


def parameters(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def train(optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def both(shapes: list[tuple[int, ...]], **arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters after 30 steps, of ours and of torch's."""
    ours, theirs = parameters(shapes), parameters(shapes)
    train(NativeAdam(ours, fused=True, **arguments), 30)
    train(torch.optim.Adam(theirs, fused=True, **arguments), 30)
    return ours, theirs


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_are_torchs_to_the_last_bit(variant: str) -> None:
    for ours, theirs in zip(*both(WHOLE, **VARIANTS[variant]), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_does_not_fill_a_register_differs_by_rounding(variant: str) -> None:
    for ours, theirs in zip(*both(ODD, **VARIANTS[variant]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("_kernel")
def test_the_number_of_threads_changes_no_bit() -> None:
    one, two = parameters([(300, 401), (5,)]), parameters([(300, 401), (5,)])
    train(NativeAdam(one), 3)
    torch.set_num_threads(2)
    train(NativeAdam(two), 3)
    assert all(map(torch.equal, one, two))


@pytest.mark.parametrize("first", [NativeAdam, torch.optim.Adam])
@pytest.mark.parametrize("then", [NativeAdam, torch.optim.Adam])
def test_either_goes_on_from_the_state_of_the_other(first: Any, then: Any) -> None:
    whole, parts = parameters(WHOLE), parameters(WHOLE)
    reference = torch.optim.Adam(whole, fused=True)
    train(reference, 4, 1)
    train(reference, 4, 2)
    begun = first(parts, fused=True)
    train(begun, 4, 1)
    goes_on = then(parts, fused=True)
    goes_on.load_state_dict(begun.state_dict())
    train(goes_on, 4, 2)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert float(goes_on.state[parts[0]]["step"]) == 8


@pytest.mark.parametrize("arguments", [{"amsgrad": True}, {"maximize": True}, {}])
def test_what_the_kernel_does_not_take_goes_to_torch(arguments: dict[str, Any]) -> None:
    ours, theirs = parameters(ODD, torch.float64), parameters(ODD, torch.float64)
    train(NativeAdam(ours, fused=True, **arguments), 5)
    train(torch.optim.Adam(theirs, fused=True, **arguments), 5)
    assert all(map(torch.equal, ours, theirs))


def test_without_the_kernel_torch_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_adam, "available", lambda: False)
    ours, theirs = both(ODD)
    assert all(map(torch.equal, ours, theirs))


def test_a_parameter_without_gradient_stays_and_has_no_state() -> None:
    used, unused = parameters([(20,), (30,)])
    before = unused.detach().clone()
    optimizer = NativeAdam([used, unused])
    used.grad = torch.ones(20)
    optimizer.step()
    assert torch.equal(unused, before)
    assert unused not in optimizer.state
