"""Fixtures of the tests of compiled layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kexue_cli.tasks.vae import dense


@pytest.fixture
def kernels() -> None:
    """The kernels run here; skips where they cannot."""
    missing = dense.obstacle()
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
