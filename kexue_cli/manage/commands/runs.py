"""List runs, filtered and sorted.

  kexue runs
  kexue runs task=lamost 'valid/macro_f1>0.8' --sort -valid/macro_f1
  kexue runs status=failed --columns name,error --format csv

A condition compares a field of run.json (task, model, data, seed, status, experiment, …), a metric
(split/name, or "primary"), or a configuration key (model.filters).
`=` takes wildcards: model=conv*.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kexue_cli.errors import UserError
from kexue_cli.manage import query, tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.store import Run, find_runs

NAME = "runs"
HELP = "list runs: filter, sort, choose columns"
WORDS = "conditions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue runs`."""
    parser.add_argument("conditions", nargs="*", metavar="KEY=VALUE", help="also != > < >= <=")
    parser.add_argument("--sort", metavar="KEY", help="sort by a key, -KEY for descending")
    parser.add_argument("--columns", metavar="K1,K2", help="which keys to show")
    parser.add_argument("--limit", type=int, metavar="N", help="only the last N")
    add_root_argument(parser)
    tables.add_format_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; says how many runs could not be read."""
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit must be at least 1, found {args.limit}")
    runs = query.select(find_runs(args.root), args.conditions)
    if args.sort:
        runs = query.sort(runs, args.sort)
        runs = runs[: args.limit]
    elif args.limit:
        runs = runs[-args.limit :]
    columns = args.columns.split(",") if args.columns else None
    rows = [chosen(run, columns) if columns else summary(run) for run in runs]
    if not rows and args.format == "table":
        print("no runs" + (" fulfil that" if args.conditions else f" in {args.root} yet"))
    else:
        print(tables.render(rows, columns, args.format))
    warn_of_problems(runs)
    return 0


def summary(run: Run) -> tables.Row:
    """The usual columns of one run."""
    record, primary = run.record, run.primary
    metric = f"{primary.get('split')}/{primary.get('name')}" if primary else None
    return {
        "run": run.name,
        "status": run.status,
        "task": record.get("task"),
        "model": record.get("model"),
        "data": record.get("data"),
        "seed": record.get("seed"),
        "metric": metric,
        "value": primary.get("value"),
        "time": tables.duration(record.get("wall_seconds")),
        "started": str(record.get("started") or "")[:16].replace("T", " "),
    }


def chosen(run: Run, columns: Sequence[str]) -> tables.Row:
    """The columns a user asked for."""
    return {key: query.value_of(run, key) for key in columns}


def warn_of_problems(runs: Sequence[Run]) -> None:
    """Say on stderr which directories are not whole."""
    problems = [run for run in runs if run.problem]
    for run in problems[:5]:
        print(f"note: {run.path}: {run.problem}", file=sys.stderr)
    if len(problems) > 5:
        print(f"note: and {len(problems) - 5} more such directories", file=sys.stderr)
