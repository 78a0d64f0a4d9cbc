"""What there is to choose: the options of each configuration group and their one-line descriptions.

Read from the YAML files' first comment line, so that `--help` and error messages need no imports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kexue_cli.paths import conf_dir


@dataclass(frozen=True)
class Option:
    """One YAML file of a group: `name` is what the user types."""

    name: str
    description: str
    path: Path


def options(group: str) -> list[Option]:
    """All options of a group, sorted by name."""
    found = []
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        comments = re.findall(r"^#\s*([^@\s].*)$", path.read_text(encoding="utf-8"), re.M)
        found.append(Option(path.stem, comments[0].strip() if comments else "", path))
    return found


def task_names() -> list[str]:
    """All tasks, sorted by name."""
    return [option.name for option in options("task")]


def options_of_task(group: str, task: str) -> list[str]:
    """Names of the models or data sets that serve `task`, by name or by a kind of data it takes."""
    serving, takes = tasks_served(group), taken_by(task)
    return [option.name for option in options(group) if serving.get(option.name) in takes]


def taken_by(task: str) -> tuple[str, ...]:
    """What the `task` of a model or data set may say if this task is to use it."""
    from kexue_cli.config import task_config_modules

    rooms = {module.__name__.split(".")[-2]: module for module in task_config_modules()}
    return (task, *getattr(rooms.get(task), "TAKES", ()))


def tasks_served(group: str) -> dict[str, str]:
    """Option name → task it serves, from the dataclass that its YAML file names as its schema."""
    from kexue_cli.config import task_config_modules

    serving = {}
    for module in task_config_modules():
        for path, schema in module.SCHEMAS.items():
            kind, _, name = path.partition("/")
            if kind == group:
                serving[name] = schema.__dataclass_fields__["task"].default
    named = {option.name: _schema_name(group, option.path) for option in options(group)}
    return {name: serving[schema] for name, schema in named.items() if schema in serving}


def _schema_name(group: str, path: Path) -> str | None:
    found = re.search(rf"/schema/{group}/(\w+)", path.read_text(encoding="utf-8"))
    return None if found is None else found[1]
