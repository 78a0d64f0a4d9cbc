"""What a sweep consists of: its jobs, its directory, and sweep.json which remembers both.

outputs/<task>/sweeps/<YYYY-MM-DD_HH-MM-SS>-<4 hex>/
  sweep.json     the command and its jobs: number → overrides
  jobs/<n>.json  how job n went       logs/<n>.log  what it printed
  <n>/           its run directory    attempts/     earlier, failed run directories
  sweep.csv      one row per job      summary.csv   mean ± sd over seeds

Hydra only parses and expands; numbering and directories are ours, so that a sweep can go on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.files import write_json
from kexue_cli.run.record import now

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Words:
    """A command line, sorted: Hydra's flags, overrides of the jobs, overrides of Hydra itself."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    hydra: tuple[str, ...]
    sweep: str | None


@dataclass(frozen=True)
class Plan:
    """A sweep on disk: `jobs[n]` are the overrides of job n; `flags` go to every job."""

    directory: Path
    jobs: tuple[tuple[str, ...], ...]
    flags: tuple[str, ...]

    def run_directory(self, number: int) -> Path:
        """The run directory of one job."""
        return self.directory / str(number)


def sort_words(words: Sequence[str]) -> Words:
    """Tell the words of `kexue-run -m …` apart.

    Raises:
        UserError: something that has no meaning in a sweep.
    """
    flags: list[str] = []
    overrides: list[str] = []
    hydra: list[str] = []
    sweep = None
    remaining = [word for word in words if word not in ("-m", "--multirun")]
    while remaining:
        word = remaining.pop(0)
        key = word.lstrip("+~").partition("=")[0]
        if word.startswith("-"):
            takes_value = word in ("--config-dir", "-cd", "--config-name", "-cn")
            flags += [word, remaining.pop(0)] if takes_value and remaining else [word]
        elif key == "sweep":
            sweep = word.partition("=")[2]
        elif key.startswith(("hydra.", "hydra/")):
            hydra.append(word)
        elif key in ("resume", "run_dir"):
            raise UserError(
                f"{key}= names one run and has no meaning with -m. Sweeps go on by sweep=…"
            )
        else:
            overrides.append(word)
    return Words(_absolute_config_dir(flags), tuple(overrides), tuple(hydra), sweep)


def _absolute_config_dir(flags: list[str]) -> tuple[str, ...]:
    # A job may run on another machine or from another folder.
    for i, flag in enumerate(flags[:-1]):
        if flag in ("--config-dir", "-cd"):
            flags[i + 1] = str(Path(flags[i + 1]).resolve())
    return tuple(flags)


def expand(words: Words) -> list[tuple[str, ...]]:
    """All combinations, in the grammar of Hydra: 1,2  range(1,4)  choice(a,b)  glob(conv*)."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from kexue_cli.paths import conf_dir

    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(words.overrides))
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return list(dict.fromkeys(tuple(job) for job in batch))


def task_of(words: Words, job: Sequence[str]) -> str:
    """The task that a job's overrides choose; composing finds a misspelt key before any work."""
    from hydra import compose, initialize_config_dir

    from kexue_cli.check import check
    from kexue_cli.paths import conf_dir

    search = [f"file://{flag}" for flag in words.flags if not flag.startswith("-")]
    more = [f"hydra.searchpath=[{','.join(search)}]"] if search else []
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*job, *more])
    check(cfg)
    return str(cfg.task.name)


def output_dir_of(jobs: Sequence[Sequence[str]]) -> Path:
    """Where the jobs of a sweep are to be written.

    Raises:
        UserError: `output_dir` itself is swept over.
    """
    words = [word.lstrip("+") for job in jobs for word in job]
    places = {w.partition("=")[2].strip("'\"") for w in words if w.startswith("output_dir=")}
    if len(places) > 1:
        raise UserError("output_dir: give one folder; the jobs of a sweep lie side by side in it")
    return Path(next(iter(places), "outputs"))


def create(
    words: Words, jobs: Sequence[tuple[str, ...]], task: str, command: Sequence[str]
) -> Plan:
    """Make a new sweep directory that no other sweep has, not even one of the same second."""
    directory = RunDirectory.create(output_dir_of(jobs), task, "sweeps").path.resolve()
    plan = Plan(directory, tuple(jobs), words.flags)
    save(plan, command)
    return plan


def save(plan: Plan, command: Sequence[str]) -> None:
    """Write sweep.json."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": now(),
        "command": list(command),
        "flags": list(plan.flags),
        "jobs": [{"number": n, "overrides": list(job)} for n, job in enumerate(plan.jobs)],
    }
    write_json(plan.directory / "sweep.json", content)


def load(directory: Path) -> Plan:
    """Read sweep.json.

    Raises:
        UserError: it is not there, broken, or of a newer version.
    """
    path = directory / "sweep.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version > SCHEMA_VERSION:
            raise UserError(f"{path} was written by a newer version (schema {version})")
        jobs = tuple(tuple(job["overrides"]) for job in content["jobs"])
        return Plan(directory.resolve(), jobs, tuple(content["flags"]))
    except FileNotFoundError:
        raise UserError(f"{directory} is no sweep directory: it has no sweep.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); its jobs cannot be continued") from error


def continued(words: Words, jobs: Sequence[tuple[str, ...]], command: Sequence[str]) -> Plan:
    """The plan of an earlier sweep, combinations that are new appended to its jobs.

    Without any overrides, the sweep's own jobs are taken.

    Raises:
        UserError: the directory is that of another command.
    """
    assert words.sweep is not None
    plan = load(find(words.sweep, output_dir_of(jobs)))
    if not words.overrides:
        return plan
    missing = [job for job in plan.jobs if job not in set(jobs)]
    if missing:
        raise UserError(
            f"sweep={words.sweep}: this is the directory of another command. Its job "
            f"`{' '.join(missing[0])}` is not among those of this command; the first of these is "
            f"`{' '.join(jobs[0])}`. Leave sweep= out to start a new sweep, "
            "or leave all other settings out to go on with the old one"
        )
    grown = Plan(
        plan.directory, (*plan.jobs, *(job for job in jobs if job not in plan.jobs)), words.flags
    )
    if grown.jobs != plan.jobs:
        save(grown, command)
    return grown


def find(text: str, output_dir: Path) -> Path:
    """The directory that `sweep=` means: a path, the end of a name, or "last"."""
    if not text.strip("'\" "):
        raise UserError("sweep=: is empty. Give a sweep directory, the end of its name, or last")
    if (Path(text) / "sweep.json").exists():
        return Path(text)
    sweeps = sorted(output_dir.glob("*/sweeps/*/sweep.json"), key=lambda path: path.parent.name)
    if text != "last":
        sweeps = [path for path in sweeps if path.parent.name.endswith(text)]
    if not sweeps:
        raise UserError(f"sweep={text}: there is no such sweep below {output_dir}")
    return sweeps[-1].parent


def swept_keys(plan: Plan) -> list[str]:
    """The keys in which the jobs differ, in the order they were typed."""
    settings = [settings_of(job) for job in plan.jobs]
    keys = dict.fromkeys(itertools.chain.from_iterable(settings))
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def settings_of(job: Sequence[str]) -> dict[str, Any]:
    """Overrides as key → value."""
    return {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in job}
