"""Delete runs or whole sweeps.

  kexue rm 3fa2
  kexue rm status=failed --dry-run
  kexue rm outputs/lamost/sweeps/2026-11-22_17-40-01-3fa2

Runs that are still going are kept. Nothing but run and sweep directories is ever deleted.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.manage import query
from kexue_cli.manage.arguments import add_root_argument, add_yes_argument
from kexue_cli.manage.store import Run, find_runs, is_sweep, resolve

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
    directories: dict[Path, None] = {}
    for name in names:
        runs = resolve(name, root)
        _reject_running(runs)
        parents = {run.path.parent for run in runs}
        whole_sweep = len(runs) != 1 and len(parents) == 1 and is_sweep(next(iter(parents)))
        directories.update(dict.fromkeys(parents if whole_sweep else [run.path for run in runs]))
    return list(directories)


def _reject_running(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.status == "running":
            raise UserError(f"{run.path} is still running: stop it first, then delete it")


def delete(directory: Path) -> None:
    """Delete a directory. It loses its name first, so that a half deleted one is never listed."""
    doomed = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.deleted")
    directory.rename(doomed)
    shutil.rmtree(doomed)


def _confirmed(count: int) -> bool:
    try:
        return input(f"delete these {count} directories? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
