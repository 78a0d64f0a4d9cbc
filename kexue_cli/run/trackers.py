"""Mirrors of the metrics log in other tools' formats; off by default."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.metrics_log import Tracker


def start(cfg: DictConfig, directory: RunDirectory, config: dict[str, Any]) -> list[Tracker]:
    """The trackers that the configuration asks for."""
    return []
