"""Configuration of the counting methods of the task minent: pmi_cut, merge, word_discovery."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_cli.config import ModelConfig, Range
from kexue_cli.errors import ConfigError

CHOICES = {
    "engine": ("local", "ray"),
    "rule": ("open", "kenlm"),
    "rare": ("split", "drop"),
    "redundancy": ("entropy", "back_check", "none"),
}
COUNT_RANGES: tuple[Range, ...] = (
    ("model.order", 2, 64),
    ("model.workers", 1, 4096),
    ("model.memory_mib", 1, 10**9),
    ("model.min_count", 1, 10**15),
    ("model.min_proba", 0.0, 1.0),
    ("model.nats_per_joint", 0.0, 1e6),
    ("model.max_words", 1, 10**12),
    ("model.max_merges", 1, 10**12),
    ("model.choose_on_characters", 1, 10**12),
)


@dataclass
class CountingModel(ModelConfig):
    """What counts n-grams."""

    task: str = "minent"
    memory_mib: int = 1024
    """Bound of the whole process while n-grams are counted; what does not fit goes to disk."""
    workers: int | None = None
    """Counting threads; null: one for each core."""
    engine: str = "local"
    """`local`, or `ray`: map and merge on a Ray cluster (also `+engine=ray`)."""
    scratch: str | None = None
    """Folder for temporary files, which must exist; null: the system's."""


@dataclass
class PmiCutModel(CountingModel):
    """Cut where mutual information is low (kexue.fm 5476)."""

    name: str = "pmi_cut"
    _target_: str = "kexue_cli.tasks.minent.pmi_cut.PmiCut"
    order: int = 4
    """Longest n-gram that can join characters; 2: pairs only, as in the post."""
    min_pmi: Any = None
    """Nats: x (for x, 2x, 3x … of orders 2, 3, 4 …), a list from order 2 on, or null: chosen."""
    min_count: int = 2
    min_proba: float = 0.0
    """Rarer n-grams do not join, rarer candidates are no words; as a count, and as a share."""
    rare: str = "split"
    """Rare candidates: `split` counts their parts instead, `drop` forgets them."""
    redundancy: str = "entropy"
    """`entropy`: a word must save nats_per_joint over its parts; `back_check`, `none`."""
    nats_per_joint: float = 1.0
    grid: list[float] = field(
        default_factory=lambda: [
            0.0,
            0.1,
            0.2,
            0.3,
            0.4,
            0.5,
            0.6,
            0.8,
            1.0,
            1.3,
            1.6,
            2.0,
            2.5,
            3.0,
        ]
    )
    """Thresholds to choose from, rising, nats; the search goes downhill from the middle one."""
    choose_on_characters: int = 1_000_000


@dataclass
class NlpZeroModel(PmiCutModel):
    """`PmiCutModel` with the settings of the author's nlp-zero."""

    name: str = "nlp_zero"
    order: int = 2
    min_pmi: Any = 1.0
    min_count: int = 1
    min_proba: float = 1e-7
    rare: str = "drop"


@dataclass
class WordDiscoveryModel(CountingModel):
    """The author's word discovery (kexue.fm 6920)."""

    name: str = "word_discovery"
    _target_: str = "kexue_cli.tasks.minent.word_discovery.WordDiscovery"
    order: int = 4
    min_pmi: list[float] = field(default_factory=lambda: [2.0, 4.0, 6.0])
    """Nats, for orders 2 … order."""
    min_count: int = 32
    max_words: int | None = None
    rule: str = "kenlm"
    """`kenlm`: the counts the author's program uses; `open`: every n-gram plainly."""


@dataclass
class MergeModel(ModelConfig):
    """Greedy merging by the exact entropy gain (kexue.fm 5476, eq. 2.11)."""

    name: str = "merge"
    task: str = "minent"
    _target_: str = "kexue_cli.tasks.minent.merge.Merge"
    min_count: int = 2
    """Pairs seen less often are not merged."""
    max_length: int = 32
    """Longest word, characters."""
    lexicon_cost: bool = True
    """A word must also pay for being spelled in the lexicon; false: the post's criterion alone."""
    max_merges: int | None = None
    max_characters: int | None = 20_000_000
    """Learn from about so many characters at the start of the text; null: all."""


def check_counting(model: Any) -> None:
    """Rules of the counting methods that the types cannot say; raises ConfigError."""
    for key, known in CHOICES.items():
        if key in model and model[key] not in known:
            raise ConfigError(
                f"model.{key}", f"expected {' or '.join(known)}, found {model[key]!r}"
            )
    _check_thresholds(model)
    if model.name == "merge":
        for key in ("min_count", "max_length"):
            if model[key] < 2:
                raise ConfigError(f"model.{key}", f"expected 2 or more, found {model[key]}")


def check_scratch(scratch: str | None) -> None:
    """Raise ConfigError where model.scratch is given and is no folder that can be written."""
    if scratch is None:
        return
    folder = Path(scratch).expanduser()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
    elif not os.access(folder, os.W_OK | os.X_OK):
        found = "one that cannot"
    else:
        return
    raise ConfigError(
        "model.scratch", f"expected a folder that can be written, found {found} at {scratch!r}"
    )


def _check_thresholds(model: Any) -> None:
    """Numbers of nats where they may be of several types; raises ConfigError."""
    for key in ("min_pmi", "grid"):
        found = model.get(key)
        values: list[Any] = [found] if isinstance(found, int | float | str) else list(found or [])
        if not all(type(v) in (int, float) and math.isfinite(v) for v in values):
            raise ConfigError(f"model.{key}", f"expected numbers of nats, found {found}")
        if isinstance(found, Sequence) and key == "min_pmi" and len(found) != model.order - 1:
            number = "" if model.name == "word_discovery" else "a number or "
            raise ConfigError(
                "model.min_pmi",
                f"expected {number}{model.order - 1} numbers, for orders 2 … {model.order}, "
                f"found {len(found)}",
            )
    grid = list(model.get("grid") or [])
    if "grid" in model and (not grid or grid != sorted(grid)):
        raise ConfigError("model.grid", f"expected rising thresholds, at least one, found {grid}")


COUNT_SCHEMAS = {
    "model/pmi_cut": PmiCutModel,
    "model/nlp_zero": NlpZeroModel,
    "model/word_discovery": WordDiscoveryModel,
    "model/merge": MergeModel,
}
