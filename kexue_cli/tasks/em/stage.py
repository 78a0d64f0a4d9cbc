"""One piece of a fit that can stop in the middle and go on, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

State = dict[str, Any]  # arrays, numbers, texts, lists and dicts of them, or functions giving one


@dataclass
class Stage:
    """Where a piece of work stands.

    Attributes:
        state: what it kept last, from where to go on; None: nothing yet.
        on_keep: told every kept state; may store it, and raise to stop the work.
    """

    state: State | None = None
    on_keep: Callable[[State], None] = lambda state: None

    def keep(self, state: State) -> None:
        """Remember `state`; its arrays must stay as they are until the next call."""
        self.state = state
        self.on_keep(state)

    def once(self, compute: Callable[[], State]) -> State:
        """What `compute` gives, or gave before the stop."""
        if self.state is None:
            self.keep(compute())
        assert self.state is not None
        return self.state


def to_tensors(value: Any) -> Any:
    """The same state with arrays as tensors, as checkpoints hold them; functions are called."""
    if callable(value):
        return to_tensors(value())
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: to_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_tensors(item) for item in value]
    return value


def to_arrays(value: Any) -> Any:
    """The inverse of `to_tensors`."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: to_arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_arrays(item) for item in value]
    return value
