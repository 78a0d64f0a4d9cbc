"""Write one static HTML page about a run or a sweep.

  kexue report last
  kexue report outputs/lamost/sweeps/2026-11-22_17-40-01-3fa2 --out sweep.html

The page needs no network and no server: open it from disk, mail it, print it. It follows the light
or dark theme of the reader and fits a phone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.store import find_sweeps, resolve_one
from kexue_cli.run.files import write_text

NAME = "report"
HELP = "one static HTML page about a run or a sweep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue report`."""
    parser.add_argument("name", metavar="RUN|SWEEP")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html inside it")
    add_root_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    directory, text = page_of(args.name, args.root)
    target = args.out if args.out is not None else directory / "report.html"
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from error
    print(target)
    return 0


def page_of(name: str, root: Path) -> tuple[Path, str]:
    """The directory that is meant and its page."""
    sweep = find_sweep(name, root)
    if sweep is not None:
        from kexue_cli.report.sweep_page import sweep_page

        return sweep, sweep_page(sweep)
    from kexue_cli.report.run_page import run_page

    run = resolve_one(name, root)
    return run.path, run_page(run)


def find_sweep(name: str, root: Path) -> Path | None:
    """The sweep directory of this name, if it is one."""
    if name.strip() and (Path(name) / "sweep.json").exists():
        return Path(name)
    if not name.strip() or Path(name).exists() or name == "last" or "/" in name:
        return None
    found = [path for path in find_sweeps(root) if path.name.endswith(name)]
    return found[0] if len(found) == 1 else None
