"""Whole runs of task em in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from kexue_cli.check import check
from kexue_cli.config import register_schemas
from kexue_cli.paths import conf_dir
from kexue_cli.runner import run

Run = Callable[..., Path]


@pytest.fixture
def em(tmp_path: Path) -> Run:
    """Compose, check and run `task=em <words>`; the run directory."""

    def call(*words: str) -> Path:
        register_schemas()
        GlobalHydra.instance().clear()
        overrides = ["task=em", f"output_dir={tmp_path / 'outputs'}", *words]
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra.compose("config", overrides)
        check(cfg)
        return run(cfg, overrides).directory

    return call
