"""A moving average of the weights, used for evaluation and kept as the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from kexue_cli.train.sharding import copy_whole_


class WeightAverage:
    """Exponential moving average of a module's floating-point state.

    The decay starts low and reaches `decay` as steps go by, min(decay, (1 + t) / (10 + t)), so that
    an average over few steps does not remember the initialisation. With `debiased` the average is
    a_t / (1 - decay^t), a_0 = 0, as Keras 2.2.4 computes it: step t weighs
    (1 - decay) / (1 - decay^t), and the initialisation is forgotten at the first step.
    """

    def __init__(self, module: nn.Module, decay: float, debiased: bool = False) -> None:
        self.decay = decay
        self.debiased = debiased
        self.steps = 0
        self._module = module
        self._average = {name: t.detach().clone() for name, t in self._floating().items()}

    def _floating(self) -> dict[str, torch.Tensor]:
        state = self._module.state_dict()
        return {name: t for name, t in state.items() if t.is_floating_point()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        weight = self._weight()
        self.steps += 1
        now = self._floating()
        names = list(now)
        averages = [self._average[name] for name in names]
        torch._foreach_lerp_(averages, [now[name] for name in names], weight)

    def _weight(self) -> float:
        """Of the newest weights in the average."""
        if self.debiased:
            return (1 - self.decay) / (1 - self.decay ** (self.steps + 1))
        return 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within this, the module has the averaged weights."""
        trained = {name: t.detach().clone() for name, t in self._floating().items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(trained)

    @torch.no_grad()
    def _copy(self, values: dict[str, torch.Tensor]) -> None:
        for name, tensor in self._floating().items():
            tensor.copy_(values[name])

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self.steps, "average": self._average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take what `state_dict` gave."""
        steps, average = state["steps"], state["average"]
        assert isinstance(steps, int)
        assert isinstance(average, dict)
        self.steps = steps
        for name, tensor in self._average.items():
            copy_whole_(tensor, average[name])
