"""What choosing a device sets up in torch."""

from collections.abc import Iterator

import pytest
import torch
from omegaconf import OmegaConf

from kexue_cli.config import Precision
from kexue_cli.run.device import choose


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_deterministic_runs_do_not_fill_buffers_that_are_overwritten() -> None:
    device = {"name": "cpu", "threads": 1, "compile": False, "deterministic": True}
    choose(OmegaConf.create({"device": device, "precision": Precision.fp32}))
    assert torch.are_deterministic_algorithms_enabled()
    filled = [bool(torch.empty(1000).isnan().all()) for _ in range(10)]
    assert filled == [False] * 10
