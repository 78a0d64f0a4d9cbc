"""What a model of this task gets from the run: engine, seeds, a log that counts its own steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kexue_cli.errors import Interrupted
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.iterate import Trace, take
from kexue_cli.tasks.em.natural import Parameters

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

RISE = 1e-9  # relative rise of the joint divergence that rounding explains


@dataclass
class Session:
    """One run, seen from a model.

    Attributes:
        snapshots: (fit, restart) to (iteration, parameters) at iterations 0, 1, 2, 4, 8 ...
        fit: number of the fit under way, one per candidate of a model choice.
        history: one dict per iteration and restart: what was logged.
    """

    ctx: Context
    engine: Engine
    fit: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[tuple[int, int], list[tuple[int, Parameters]]] = field(default_factory=dict)
    _first_step: int = 0
    _rises: int = 0
    _last: dict[int, Trace] = field(default_factory=dict)

    @classmethod
    def of(cls, ctx: Context, dtype: Any = "float64") -> Session:
        """Engine on the run's device and threads, stopping when the run is asked to stop."""
        device = ctx.device.torch_device
        name = "cpu" if device.type == "mps" else str(device)

        def poll() -> None:
            if ctx.stop.requested:
                raise Interrupted()

        engine = Engine(name, ctx.device.threads, dtype, "auto", ctx.ranks.rank, ctx.ranks.size)
        engine.poll = poll
        if ctx.ranks.size > 1:
            engine.all_reduce = _all_reduce(ctx)
        return cls(ctx, engine)

    def seeds(self, count: int) -> list[int]:
        """One seed per restart, by its number, so that restart 3 is the same in every run."""
        return [self.ctx.seeds.integer(f"restart {number}") for number in range(count)]

    def capped(self, iterations: int) -> int:
        """Iterations under `limit.steps`."""
        limit = self.ctx.cfg.limit.steps
        return iterations if limit is None else min(iterations, int(limit))

    def begin(self) -> None:
        """A new fit: its iterations go on where the last fit's steps ended."""
        self.fit += 1
        self._last, self._first_step = {}, self.step

    def watch(self, trace: Trace, parameters: Parameters) -> None:
        """Log the post's two terms of one iteration of one restart; see that nothing rises."""
        values = {
            "fit": self.fit,
            "restart": trace.restart,
            "marginal_nll": trace.marginal,
            "joint_kl_after_e": trace.joint_after_e,
            "posterior_gap_after_e": trace.gap_after_e,
            "joint_kl_after_m": trace.joint_after_m,
            "log_likelihood": trace.log_likelihood,
        }
        last = self._last.get(trace.restart)
        if last is not None:
            values["posterior_gap_after_m"] = last.joint_after_m - trace.marginal
        self.step = self._first_step + trace.iteration
        self.log(values)
        rise = trace.joint_after_m - trace.joint_after_e
        if rise > RISE * max(1.0, abs(trace.joint_after_e)):
            self._rises += 1
        if trace.iteration & (trace.iteration - 1) == 0:
            own = take(parameters, np.array([trace.restart]))
            kept = self.snapshots.setdefault((self.fit, trace.restart), [])
            kept.append((trace.iteration, own))
        self._last[trace.restart] = trace

    def log(self, values: dict[str, float]) -> None:
        """One line of metrics.jsonl."""
        self.history.append({"step": self.step, **values})
        self.ctx.log(step=self.step, split="train", **values)
        self.step += 1

    def complain_of_rises(self) -> None:
        """Say how often an M-step made the joint divergence larger, which exact EM never does."""
        if self._rises:
            self.ctx.console.warn(
                f"{self._rises} M-steps raised the joint divergence: model.reg_covar adds to "
                "variances after the M-step; model.regularisation does not have this effect"
            )


def _all_reduce(ctx: Context) -> Callable[[np.ndarray], None]:
    def add(flat: np.ndarray) -> None:
        tensor = torch.from_numpy(flat).to(ctx.device.torch_device)
        ctx.ranks.all_reduce_(tensor)
        flat[:] = tensor.cpu().numpy()

    return add
