"""Adam as Keras computes it: epsilon is added to the uncorrected root of the second moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kexue_cli.train.native_adam import NativeAdam


class KerasAdam(NativeAdam):
    """p -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps).

    torch adds its epsilon to sqrt(v / (1 - b2^t)); the two agree if that one is
    eps / sqrt(1 - b2^t), a number that falls from 32 eps to eps while the average warms up.
    """

    def __init__(self, params: Any, eps: float = 1e-7, **arguments: Any) -> None:
        super().__init__(params, eps=eps, **arguments)
        for group in self.param_groups:
            group.setdefault("keras_eps", eps)
            group.setdefault("keras_steps", 0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters."""
        for group in self.param_groups:
            group["keras_steps"] += 1
            correction = 1 - group["betas"][1] ** group["keras_steps"]
            group["eps"] = group["keras_eps"] / correction**0.5
        return super().step(closure)
