"""What the tests of the readers share: a silent console, settings, small sets in each format."""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kexue_cli.run.console import Console
from kexue_cli.tasks.lamost import data
from kexue_cli.tasks.lamost.config_data import DATA_SCHEMAS

QUIET = Console(quiet=True)
TYPES = ["star"] * 12 + ["unknown"] * 6 + ["galaxy"] * 5 + ["qso"] * 5


def settings(kind: str, **changes: object) -> DictConfig:
    """`cfg.data` of a kind with some values changed."""
    cfg = OmegaConf.merge(OmegaConf.structured(DATA_SCHEMAS[f"data/{kind}"]), changes)
    assert isinstance(cfg, DictConfig)
    return cfg


def load(cfg: DictConfig, cache: Path, **options: Any) -> Any:
    """`data.load` with seed 0 and a console that says nothing; a LamostData."""
    return data.load(cfg, seed=0, cache_dir=cache, console=QUIET, **options)


def write_contest(root: Path, types: list[str] = TYPES, length: int = 40) -> np.ndarray:
    """A training set in the contest's format; returns its flux (n, length), id 1000 + row."""
    flux = np.random.default_rng(len(types)).normal(100, 20, (len(types), length)).round(3)
    (root / "train").mkdir(parents=True)
    lines = ["id,type", *(f"{1000 + row},{name}" for row, name in enumerate(types))]
    (root / "train_index.csv").write_text("\n".join(lines) + "\n")
    for row, values in enumerate(flux):
        (root / "train" / f"{1000 + row}.txt").write_text(",".join(map(str, values)))
    return flux.astype(np.float32)


class Heard(Console):
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")
