"""What a model of this task gets from the run: engine, seeds, a log that counts its own steps, and
stages that a stopped run goes on from.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kexue_cli.run.metrics_log import read_metrics
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.iterate import Trace, take
from kexue_cli.tasks.em.natural import Parameters
from kexue_cli.tasks.em.stage import Stage, State, to_arrays, to_tensors

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

RISE = 1e-9  # relative rise of the joint divergence that rounding explains
SAVE_SECONDS = 60.0  # between two checkpoints of a fit under way


@dataclass
class Session:
    """One run, seen from a model.

    Attributes:
        snapshots: (fit, restart) to (iteration, parameters) at iterations 0, 1, 2, 4, 8 ...
        fit: number of the fit under way, one per candidate of a model choice.
        history: one dict per iteration and restart: what was logged.
        progress: what every stage has kept last, by its name.
    """

    ctx: Context
    engine: Engine
    fit: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[tuple[int, int], list[tuple[int, Parameters]]] = field(default_factory=dict)
    progress: dict[str, State] = field(default_factory=dict)
    _first_step: int = 0
    _rises: int = 0
    _joint: dict[int, float] = field(default_factory=dict)  # by restart, after its last M-step
    _saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, ctx: Context, dtype: Any = "float64") -> Session:
        """Engine on the run's device and threads; what an earlier part of this run has done."""
        device = ctx.device.torch_device
        name = "cpu" if device.type == "mps" else str(device)
        engine = Engine(name, ctx.device.threads, dtype, "auto", ctx.ranks.rank, ctx.ranks.size)
        session = cls(ctx, engine)
        if ctx.ranks.size > 1:
            engine.all_reduce = _all_reduce(ctx)
        else:
            engine.poll = session._poll
        if ctx.resume is not None:
            session._go_on(ctx.resume["session"])
        return session

    def _go_on(self, state: State) -> None:
        state = to_arrays(state)
        self.step, self._rises, self._joint = state["step"], state["rises"], state["joint"]
        self.progress = state["progress"]
        for fit, restart, iteration, parameters in state["snapshots"]:
            self.snapshots.setdefault((fit, restart), []).append((iteration, parameters))
        if self.ctx.log.path is not None:
            lines = read_metrics(self.ctx.log.path)
            self.history = [line for line in lines if line.pop("split") == "train"]

    def stage(self, name: str) -> Stage:
        """A stage of the fit under way, going on where a stopped run left it."""
        key = f"fit {self.fit}: {name}"
        return Stage(self.progress.get(key), lambda state: self._keep(key, state))

    def _keep(self, key: str, state: State) -> None:
        """Remember; write a checkpoint now and then, and when the run is to stop (all ranks)."""
        self.progress[key] = state
        due = time.monotonic() - self._saved > SAVE_SECONDS
        wishes = np.array([self.ctx.stop.requested, due], dtype=np.float64)
        stop, due = self.engine.summed([wishes])[0] > 0
        if stop or due:
            self.save()
        if stop:
            self.ctx.stop.request(signal.SIGTERM)  # another rank may have received it
            self.ctx.stop.raise_if_requested()

    def _poll(self) -> None:
        """Stop inside a pass over the rows: the pass is done again, all before it is kept."""
        if self.ctx.stop.requested:
            self.save()
            self.ctx.stop.raise_if_requested()

    def save(self, task: State | None = None) -> None:
        """Checkpoint; `task` is the model's state once it is fitted."""
        snapshots = [(*key, *kept) for key, entries in self.snapshots.items() for kept in entries]
        state = {
            "step": self.step,
            "rises": self._rises,
            "joint": self._joint,
            "progress": self.progress,
            "snapshots": snapshots,
        }
        self.ctx.save_checkpoint({"task": task, "session": to_tensors(state)})
        self._saved = time.monotonic()

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
        beginning = self.stage("beginning")
        if beginning.state is None:
            self._joint = {}
        self._first_step = beginning.once(lambda: {"step": self.step})["step"]

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
        if trace.restart in self._joint:
            values["posterior_gap_after_m"] = self._joint[trace.restart] - trace.marginal
        self.step = self._first_step + trace.iteration
        self.log(values)
        rise = trace.joint_after_m - trace.joint_after_e
        if rise > RISE * max(1.0, abs(trace.joint_after_e)):
            self._rises += 1
        if trace.iteration & (trace.iteration - 1) == 0:
            own = take(parameters, np.array([trace.restart]))
            kept = self.snapshots.setdefault((self.fit, trace.restart), [])
            kept.append((trace.iteration, own))
        self._joint[trace.restart] = trace.joint_after_m

    def log(self, values: dict[str, float]) -> None:
        """One line of metrics.jsonl."""
        self.history.append({"step": self.step, **values})
        self.ctx.log(step=self.step, split="train", **values)
        self.step += 1

    def complain_of_rises(self, reg_covar: float) -> None:
        """Say how often an M-step made the joint divergence larger, which exact EM never does."""
        if not self._rises:
            return
        if reg_covar > 0:
            reason = (
                "model.reg_covar adds to variances after the M-step; model.regularisation does not "
                "have this effect"
            )
        else:
            reason = (
                "rounding does that where a component has hardly any variance left (restarts.csv "
                "tells which collapsed)"
            )
        self.ctx.console.warn(f"{self._rises} M-steps raised the joint divergence: {reason}")


def _all_reduce(ctx: Context) -> Callable[[np.ndarray], None]:
    def add(flat: np.ndarray) -> None:
        tensor = torch.from_numpy(flat).to(ctx.device.torch_device)
        ctx.ranks.all_reduce_(tensor)
        flat[:] = tensor.cpu().numpy()

    return add
