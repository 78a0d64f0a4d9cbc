"""What the runner hands to a task: everything a run has, and nothing a task decides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kexue_cli.run import checkpoint
from kexue_cli.run.console import Console
from kexue_cli.run.device import Device
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import MetricsLog
from kexue_cli.run.ranks import Ranks
from kexue_cli.run.record import RunRecord
from kexue_cli.run.seeds import Seeds
from kexue_cli.run.signals import StopFlag

FINGERPRINT_CHUNK_BYTES = 2**24


@dataclass
class Context:
    """Handed to every step of a task.

    Attributes:
        resume: the state of checkpoints/last.pt of a run that goes on, else None.
    """

    cfg: DictConfig
    directory: RunDirectory
    record: RunRecord
    log: MetricsLog
    device: Device
    seeds: Seeds
    stop: StopFlag
    ranks: Ranks
    console: Console
    resume: dict[str, Any] | None = None
    _digest: Any = field(default_factory=hashlib.sha256)

    def fingerprint(self, *parts: np.ndarray | bytes | str) -> None:
        """Add data to the run's fingerprint (SHA-256): the same data always give the same one."""
        for part in parts:
            if isinstance(part, np.ndarray):
                self._digest.update(f"{part.dtype}{part.shape}".encode())
                rows = max(1, FINGERPRINT_CHUNK_BYTES // max(1, part[:1].nbytes))
                for start in range(0, len(part), rows):
                    self._digest.update(np.ascontiguousarray(part[start : start + rows]).tobytes())
            else:
                self._digest.update(part.encode() if isinstance(part, str) else part)

    @property
    def data_fingerprint(self) -> str:
        """The fingerprint of everything added so far."""
        return self._digest.hexdigest()

    def save_checkpoint(self, state: dict[str, Any], name: str = "last") -> None:
        """Write checkpoints/<name>.pt (main rank only); it remembers how far the log was."""
        if self.ranks.is_main:
            path = self.directory.checkpoints / f"{name}.pt"
            whole = {**state, "metrics_position": self.log.position()}
            checkpoint.save(path, self.cfg.task.name, self.cfg.model.name, whole)
