"""One root seed, many named streams: data order and initialisation do not disturb each other."""

from __future__ import annotations

import random
import zlib

import numpy as np
import torch


class Seeds:
    """Named random streams of one root seed; the same name always gives the same stream."""

    def __init__(self, root: int) -> None:
        self.root = root

    def integer(self, name: str) -> int:
        """A number of 63 bits that depends on the root seed and the name alone."""
        sequence = np.random.SeedSequence([self.root, zlib.crc32(name.encode())])
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

    def numpy(self, name: str) -> np.random.Generator:
        """A NumPy generator at the start of its stream."""
        return np.random.default_rng(self.integer(name))

    def torch(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator at the start of its stream."""
        return torch.Generator(device=device).manual_seed(self.integer(name))

    def seed_global(self, name: str) -> None:
        """Seed Python's, NumPy's and torch's global generators (dropout draws from torch's)."""
        random.seed(self.integer(f"python {name}"))
        np.random.seed(self.integer(f"numpy {name}") % 2**32)
        torch.manual_seed(self.integer(f"torch {name}"))


def global_rng_state() -> dict[str, torch.Tensor | list[torch.Tensor]]:
    """The state of torch's global generators, for a checkpoint."""
    state: dict[str, torch.Tensor | list[torch.Tensor]] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_global_rng_state(state: dict[str, torch.Tensor | list[torch.Tensor]]) -> None:
    """Go on where `global_rng_state` was taken."""
    cpu, cuda = state["cpu"], state.get("cuda")
    assert isinstance(cpu, torch.Tensor)
    torch.set_rng_state(cpu)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(list(cuda))
