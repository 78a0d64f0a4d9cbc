"""Repetitions of one setting: runs that differ in seed or fold alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kexue_cli.manage.store import Run

# What may differ between repetitions of one experiment.
REPETITION_KEYS = ("seed", "data.fold")
# What says nothing about the result.
SILENT_KEYS = (
    "output_dir",
    "run_dir",
    "resume",
    "checkpoint_minutes",
    "profile",
    "trackers",
    "device.threads",
)


@dataclass
class Setting:
    """Runs of one setting; `overrides` are those they share, repetition keys left out."""

    task: str
    model: str
    data: str
    overrides: tuple[str, ...]
    runs: list[Run]

    def values(self, split: str, metric: str) -> list[float]:
        """A metric's values over the repetitions that have it."""
        found = (run.splits.get(split, {}).get(metric) for run in self.runs)
        return [float(value) for value in found if isinstance(value, (int, float))]

    @property
    def label(self) -> str:
        """What distinguishes the setting, besides task, model and data."""
        named = ("task=", "model=", "data=")
        return " ".join(o for o in self.overrides if not o.startswith(named))


def by_setting(runs: Iterable[Run]) -> list[Setting]:
    """Group runs by what they were asked to compute, in order of appearance.

    run.json's overrides are enough for that, so that no configuration needs to be parsed.
    """
    settings: dict[tuple[Any, ...], Setting] = {}
    for run in runs:
        record = run.record
        task, model, data = (str(record.get(key)) for key in ("task", "model", "data"))
        overrides = shared_overrides(record.get("overrides") or [])
        key = (task, model, data, overrides)
        settings.setdefault(key, Setting(task, model, data, overrides, [])).runs.append(run)
    return list(settings.values())


def shared_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides that matter for the result, without the repetition keys, sorted."""
    ignored = (*REPETITION_KEYS, *SILENT_KEYS)
    kept = {o for o in map(str, overrides) if o.lstrip("+").partition("=")[0] not in ignored}
    return tuple(sorted(kept))


def metric_names(runs: Iterable[Run], splits: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """All (split, metric) pairs that are numbers in any run, in order of appearance."""
    found: dict[tuple[str, str], None] = {}
    for run in runs:
        for split, row in run.splits.items():
            if splits is None or split in splits:
                found.update(
                    {(split, k): None for k, v in row.items() if isinstance(v, (int, float))}
                )
    return list(found)
