"""The best settings of each task, from finished runs.

  kexue leaderboard
  kexue leaderboard task=em data=iris --format markdown
  kexue leaderboard task=minent data.path=book.txt

One table per task, name of the data (data=…) and primary metric. Where different files went by one
name, say whose: a condition such as data.path=…. Seeds and folds of one setting are one row with
mean ± standard deviation.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from kexue_cli.errors import UserError
from kexue_cli.manage import query, tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.grouping import Setting, by_setting
from kexue_cli.manage.published import published_rows
from kexue_cli.manage.store import Run, find_runs

NAME = "leaderboard"
HELP = "rank settings by their primary metric, published values beside them"
WORDS = "conditions"

Board = tuple[str, str, str, str, str]  # task, data, split, metric, better direction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue leaderboard`."""
    parser.add_argument("conditions", nargs="*", metavar="KEY=VALUE", help="as in `kexue runs`")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="rows per table (20)")
    add_root_argument(parser)
    tables.add_format_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print one ranking per task, data set and metric."""
    if args.top < 1:
        raise UserError(f"--top must be at least 1, found {args.top}")
    runs = query.select(find_runs(args.root), args.conditions)
    boards = leaderboards(runs)
    if not boards and args.format == "table":
        print("no finished run has a primary metric here")
        return 0
    if args.format in ("csv", "json"):
        rows = [
            {"task": board[0], "data": board[1], "metric": f"{board[2]}/{board[3]}"} | row
            for board, ranked in boards.items()
            for row in ranked[: args.top]
        ]
        print(tables.render(rows, format=args.format))
        return 0
    for (task, data, split, metric, mode), ranked in boards.items():
        better = "higher" if mode == "max" else "lower"
        print(f"\n{task} on {data}: {split}/{metric}, {better} is better\n")
        print(tables.render(ranked[: args.top], format=args.format))
    return 0


def leaderboards(runs: Sequence[Run]) -> dict[Board, list[tables.Row]]:
    """Ranked rows for every (task, data, split, metric, mode) that finished runs have."""
    finished = [run for run in runs if run.status == "done" and _has_value(run)]
    boards: dict[Board, list[Setting]] = {}
    for setting in by_setting(finished):
        for board, members in _by_board(setting).items():
            boards.setdefault(board, []).append(members)
    return {board: _ranked(settings, board) for board, settings in sorted(boards.items())}


def _has_value(run: Run) -> bool:
    return isinstance(run.primary.get("value"), (int, float))


def _by_board(setting: Setting) -> dict[Board, Setting]:
    # One setting may hold runs of an earlier version with another primary metric.
    boards: dict[Board, Setting] = {}
    for run in setting.runs:
        p = run.primary
        board = (setting.task, setting.data, str(p["split"]), str(p["name"]), str(p["mode"]))
        same = Setting(setting.task, setting.model, setting.data, setting.overrides, [])
        boards.setdefault(board, same).runs.append(run)
    return boards


def _ranked(settings: Sequence[Setting], board: Board) -> list[tables.Row]:
    def mean(setting: Setting) -> float:
        return statistics.fmean(float(run.primary["value"]) for run in setting.runs)

    ordered = sorted(settings, key=mean, reverse=board[-1] == "max")
    return [_row(rank, setting, board) for rank, setting in enumerate(ordered, start=1)]


def _row(rank: int, setting: Setting, board: Board) -> tables.Row:
    split, metric = board[2], board[3]
    values = [float(run.primary["value"]) for run in setting.runs]
    row: tables.Row = {"rank": rank, "model": setting.model, "n": len(values)}
    row[f"{split}/{metric}"] = tables.mean_sd(values)
    test = setting.values("test", metric) if split != "test" else []
    if test:
        row[f"test/{metric}"] = tables.mean_sd(test)
    published = [
        f"{p['metric']} {tables.shown(p['published'])}" for p in published_rows(setting.runs[0])
    ]
    row["published"] = ", ".join(published) or None
    row["settings"] = setting.label
    row["latest run"] = setting.runs[-1].name
    return row
