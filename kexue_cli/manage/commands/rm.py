"""Delete runs or whole sweeps.

  kexue rm 3fa2
  kexue rm status=failed --dry-run
  kexue rm outputs/lamost/sweeps/2026-11-22_17-40-01-3fa2

Runs that are still going are kept. Nothing but run and sweep directories is ever deleted.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.manage import query
from kexue_cli.manage.arguments import add_root_argument, add_yes_argument
from kexue_cli.manage.store import Run, find_runs, is_run, is_sweep, locate, runs_of

NAME = "rm"
HELP = "delete runs or sweeps, by name or by condition"
WORDS = "names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue rm`."""
    parser.add_argument("names", nargs="+", metavar="RUN|SWEEP|KEY=VALUE")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    add_yes_argument(parser)
    add_root_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Delete what was named, after asking."""
    directories = chosen_directories(args.names, args.root)
    if not directories:
        print("nothing to delete")
        return 0
    for directory in directories:
        print(directory)
    if args.dry_run:
        print(f"{len(directories)} directories would be deleted")
        return 0
    if not args.yes and not _confirmed(len(directories)):
        print("nothing deleted")
        return 1
    for directory in directories:
        delete(directory)
    print(f"{len(directories)} directories deleted")
    return 0


def chosen_directories(names: Sequence[str], root: Path) -> list[Path]:
    """Directories of the named runs and sweeps, or of the runs that fulfil all conditions.

    Raises:
        UserError: names and conditions mixed, something unknown, or a run that is still going.
    """
    conditions = [name for name in names if query.TERM.match(name) and not Path(name).exists()]
    if conditions and len(conditions) < len(names):
        raise UserError("give either names or conditions, not both")
    if conditions:
        runs = query.select(find_runs(root), conditions)
        return [run.path for run in runs if run.status != "running"]
    named = {os.path.abspath(place): place for place in (_named(name, root) for name in names)}
    # A job goes with its sweep.
    return [place for whole, place in named.items() if os.path.dirname(whole) not in named]


def _named(name: str, root: Path) -> Path:
    """The one run or sweep directory of this name; never a folder that merely holds some."""
    place = locate(name, root)
    runs = runs_of(place)
    is_whole_sweep = is_sweep(place) and (bool(runs) or (place / "sweep.json").exists())
    if not is_run(place) and not is_whole_sweep:
        raise UserError(
            f"{name} is neither a run nor a sweep, so nothing is deleted. "
            "Name runs or sweeps (`kexue runs` lists them) or give conditions such as status=failed"
        )
    _reject_running(runs)
    return place


def _reject_running(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.status == "running":
            raise UserError(f"{run.path} is still running: stop it first, then delete it")


def delete(directory: Path) -> None:
    """Delete a directory. It loses its name first, so that a half deleted one is never listed.

    Of a link only the link goes: what it points to may have other users.
    """
    doomed = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.deleted")
    try:
        if directory.is_symlink():
            directory.unlink()
            return
        directory.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        left = f"; what is left of it is {doomed}" if doomed.exists() else ""
        raise UserError(f"{directory} cannot be deleted: {error.strerror}{left}") from error


def _confirmed(count: int) -> bool:
    try:
        return input(f"delete these {count} directories? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
