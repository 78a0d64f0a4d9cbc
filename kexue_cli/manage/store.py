"""Run directories as readers see them: found, read in whatever state they are, named by the user.

Only run.json and metrics.json are needed. A directory that is half deleted, written by a newer
version or being written now still gives a `Run`, with its `problem` in words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.run.directory import SCHEMA_VERSION
from kexue_cli.run.record import is_alive

STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{4,}$")
STATUSES = ("running", "done", "interrupted", "failed", "unreadable")


@dataclass
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        record: content of run.json, {} where it cannot be read.
        metrics: content of metrics.json, {} before the run has ended.
        problem: what is wrong with the directory, None if nothing.
    """

    path: Path
    record: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @cached_property
    def status(self) -> str:
        """One of STATUSES; a run whose process has gone without a word is interrupted."""
        if not self.record:
            return "unreadable"
        status = str(self.record.get("status", "unreadable"))
        process = self.record.get("process")
        if status == "running" and isinstance(process, dict) and not is_alive(process):
            return "interrupted"
        return status

    @property
    def name(self) -> str:
        """The short name a user can type: the directory's own, or <sweep>/<job> in a sweep."""
        return (
            f"{self.path.parent.name}/{self.path.name}" if in_sweep(self.path) else self.path.name
        )

    @property
    def primary(self) -> dict[str, Any]:
        """The primary metric's name, value, mode and split; {} before there is one."""
        primary = self.metrics.get("primary")
        return primary if isinstance(primary, dict) else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml with dotted keys: {"model.filters": 64, …}; {} where it is gone."""
        return flatten(read_yaml(self.path / "config.yaml"))

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Split → metric → value."""
        return {k: v for k, v in self.metrics.items() if k != "primary" and isinstance(v, dict)}


def in_sweep(path: Path) -> bool:
    """Whether this run directory is one job of a sweep."""
    return path.parent.parent.name == "sweeps"


def read_run(path: Path) -> Run:
    """Read one run directory in whatever state it is; never raises for its content."""
    record, problem = read_object(path / "run.json")
    metrics, metrics_problem = read_object(path / "metrics.json")
    if record is None:
        return Run(path, metrics=metrics or {}, problem=problem or "has no run.json")
    version = record.get("schema_version")
    if not isinstance(version, int):
        problem = "run.json names no schema_version"
    elif version > SCHEMA_VERSION:
        problem = f"written by a newer version (schema {version}, this one reads {SCHEMA_VERSION})"
    return Run(path, record, metrics or {}, problem or metrics_problem)


def read_object(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """A JSON object and None, or None and what is wrong; (None, None) where there is no file."""
    try:
        with open(path, "rb") as file:
            loaded = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read: {error}"
    if not isinstance(loaded, dict):
        return None, f"{path.name} holds no JSON object"
    return loaded, None


def read_yaml(path: Path) -> Any:
    """A YAML file's content by the fastest loader there is; {} where it is gone or broken."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def find_runs(root: Path) -> list[Run]:
    """All runs below `root`, oldest first.

    Raises:
        UserError: `root` does not exist.
    """
    if not root.is_dir():
        raise UserError(
            f"there is no folder {root}: runs are looked for where kexue-run writes them. "
            "Give another place with --root DIR"
        )
    runs = [read_run(Path(path)) for path in run_directories(str(root))]
    return sorted(runs, key=lambda run: (str(run.record.get("started") or run.name), str(run.path)))


def run_directories(folder: str, depth: int = 4) -> Iterator[str]:
    """Paths that are run directories by their name or by the run.json inside."""
    in_a_sweep = os.path.basename(os.path.dirname(folder)) == "sweeps"
    with os.scandir(folder) as entries:
        children = [entry for entry in entries if entry.is_dir() and entry.name[0] != "."]
    for child in children:
        is_sweep = os.path.basename(folder) == "sweeps"
        named_as_run = child.name.isdigit() if in_a_sweep else STAMP.match(child.name) is not None
        if not is_sweep and (named_as_run or os.path.exists(f"{child.path}/run.json")):
            yield child.path
        elif depth > 0 and (not in_a_sweep):
            yield from run_directories(child.path, depth - 1)


def find_sweeps(root: Path) -> list[Path]:
    """All sweep directories below `root`, oldest first."""
    found = [path.parent for path in root.glob("*/sweeps/*/sweep.json")]
    return sorted(found, key=lambda path: path.name)


def resolve(text: str, root: Path) -> list[Run]:
    """The runs a user means: a run or sweep directory, "last", or the start or end of a name.

    Raises:
        UserError: nothing or more than one thing is meant.
    """
    place = locate(text, root)
    runs = runs_of(place)
    if not runs:
        raise UserError(f"{place} holds no run: it has no run.json and no jobs of a sweep")
    return runs


def runs_of(folder: Path) -> list[Run]:
    """A run directory as a list of one; the runs below any other folder, such as a sweep's."""
    if is_run(folder):
        return [read_run(folder)]
    runs = [read_run(Path(found)) for found in run_directories(str(folder.absolute()))]
    return sorted(runs, key=lambda run: _natural(run.path.name))


def locate(text: str, root: Path) -> Path:
    """The directory a user means by a path, "last", or the start or end of a run's or sweep's name.

    Raises:
        UserError: nothing or more than one thing is meant.
    """
    if not text.strip():  # an unset shell variable; as a path it would be the current folder
        raise UserError(
            "the name of a run is empty: give a run directory, the end of its name, or last. "
            "`kexue runs` lists them"
        )
    path = Path(text)
    if path.is_dir():
        # "." and ".." say nothing about what they are; their whole path does.
        return path if path.name not in ("", "..") else Path(os.path.abspath(path))
    runs = find_runs(root)
    if text == "last" and runs:
        return runs[-1].path
    matching = [run for run in runs if run.name.endswith(text) or run.name.startswith(text)]
    matching = [run for run in matching if run.name == text] or matching
    if len(matching) == 1:
        return matching[0].path
    sweeps = [sweep for sweep in find_sweeps(root) if sweep.name.endswith(text)]
    if len(sweeps) == 1:
        return sweeps[0]
    if not matching:
        raise UserError(f"no run is called {text!r} below {root}. `kexue runs` lists them")
    names = ", ".join(run.name for run in matching[:4])
    raise UserError(f"{text!r} fits {len(matching)} runs ({names}, …): give more of the name")


def is_run(path: Path) -> bool:
    """Whether a directory is a run's, by the run.json inside or by its name."""
    named_as_run = STAMP.match(path.name) is not None and not is_sweep(path)
    return named_as_run or (path / "run.json").exists()


def is_sweep(path: Path) -> bool:
    """Whether a directory is a sweep's."""
    return (path / "sweep.json").exists() or path.parent.name == "sweeps"


def resolve_one(text: str, root: Path) -> Run:
    """The one run a user means."""
    runs = resolve(text, root)
    if len(runs) != 1:
        raise UserError(
            f"{text} is a sweep of {len(runs)} runs: name one of them, such as {text}/0"
        )
    return runs[0]


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)
