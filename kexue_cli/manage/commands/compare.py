"""Compare runs or sweeps: which settings differ, and what came out.

  kexue compare 3fa2 9b01
  kexue compare outputs/lamost/sweeps/2026-11-22_17-40-01-3fa2 --metrics valid/macro_f1

Runs that differ in seed or fold alone become one row: mean ± standard deviation, n of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.manage import tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.commands.runs import warn_of_problems
from kexue_cli.manage.grouping import REPETITION_KEYS, SILENT_KEYS, metric_names
from kexue_cli.manage.published import published_rows
from kexue_cli.manage.store import Run, resolve

NAME = "compare"
HELP = "put runs side by side: settings that differ, metrics with mean ± sd over seeds"
WORDS = "names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue compare`."""
    parser.add_argument("names", nargs="+", metavar="RUN|SWEEP")
    parser.add_argument("--metrics", metavar="S/M,…", help="which metrics (default: all)")
    parser.add_argument("--each", action="store_true", help="one row per run, no means over seeds")
    add_root_argument(parser)
    tables.add_format_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print one row per setting."""
    runs = [run for name in args.names for run in resolve(name, args.root)]
    runs = list({run.path.resolve(): run for run in runs}.values())
    if len(runs) < 2:
        raise UserError("comparing needs at least two runs, or a sweep; `kexue show` shows one")
    wanted = args.metrics.split(",") if args.metrics else None
    print(tables.render(comparison(runs, wanted, args.each), format=args.format))
    warn_of_problems(runs)
    return 0


def comparison(
    runs: Sequence[Run], wanted: Sequence[str] | None = None, each: bool = False
) -> list[tables.Row]:
    """Rows of differing settings and of metrics; groups are means over seeds unless `each`."""
    differing = differing_keys(runs)
    group_keys = [key for key in differing if each or key not in REPETITION_KEYS]
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        setting = tuple(tables.shown(run.config.get(key)) for key in group_keys)
        groups.setdefault((*setting, run.name) if each else setting, []).append(run)
    metrics = [f"{s}/{m}" for s, m in metric_names(runs) if wanted is None or f"{s}/{m}" in wanted]
    _reject_unknown(wanted, metrics)
    return [_row(members, group_keys, metrics) for members in groups.values()]


def _row(members: Sequence[Run], keys: Sequence[str], metrics: Sequence[str]) -> tables.Row:
    first = members[0]
    row: tables.Row = {"run": first.name if len(members) == 1 else f"{first.name} …"}
    row["n"] = len(members)
    row |= {key: first.config.get(key) for key in keys}
    statuses = sorted({run.status for run in members} - {"done"})
    row["status"] = ",".join(statuses) or "done"
    published = {p["metric"]: p["published"] for p in published_rows(first)}
    for metric in metrics:
        split, _, name = metric.partition("/")
        found = [run.splits.get(split, {}).get(name) for run in members]
        values = [float(value) for value in found if isinstance(value, (int, float))]
        row[metric] = values[0] if len(values) == 1 else tables.mean_sd(values)
        if metric in published:
            row[f"{metric} published"] = published[metric]
    return row


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Configuration keys whose values are not the same in all runs, in the order of the files."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    silent = ("expected", *SILENT_KEYS)
    return [
        key
        for key in keys
        if not key.startswith(silent) and _several([run.config.get(key) for run in runs])
    ]


def _several(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _reject_unknown(wanted: Sequence[str] | None, known: Sequence[str]) -> None:
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise UserError(f"none of these runs has the metric {unknown[0]!r}; give split/name")
