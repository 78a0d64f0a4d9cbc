"""Show one run: status, environment, metrics, published against obtained, files, configuration.

kexue show last
kexue show outputs/lamost/conv1d_res/2026-11-22_17-40-01-3fa2
kexue show 3fa2 --format json

A directory that is not whole is shown as far as it can be read.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from kexue_cli.manage import tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.published import published_rows
from kexue_cli.manage.store import Run, resolve_one

NAME = "show"
HELP = "show one run whole"
SHOWN_FIELDS = (
    "task", "model", "data", "mode", "experiment", "seed", "device", "device_name", "precision",
    "threads", "data_fingerprint", "config_hash", "git_commit", "platform", "started", "ended",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue show`."""
    parser.add_argument("name", metavar="RUN", help="directory, end of its name, or last")
    add_root_argument(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Print everything known of the run."""
    found = resolve_one(args.name, args.root)
    print(as_json(found) if args.format == "json" else as_text(found))
    return 0


def as_json(run: Run) -> str:
    """The run as one JSON object."""
    content: dict[str, Any] = {
        "path": str(run.path),
        "status": run.status,
        "problem": run.problem,
        "run": run.record,
        "metrics": run.metrics,
        "config": run.config,
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_text(run: Run) -> str:
    """The run as a page for the terminal."""
    parts = [f"{run.path}\nstatus: {run.status}"]
    if run.problem:
        parts[0] += f"\nproblem: {run.problem}"
    if run.record.get("error"):
        parts.append("error:\n" + str(run.record["error"]).rstrip())
    parts.append("\n".join(_fields(run)))
    parts.append(_section("metrics", metric_rows(run)))
    parts.append(_section("published and obtained", published_rows(run)))
    parts.append(_section("files", file_rows(run)))
    configuration = [{"key": key, "value": value} for key, value in run.config.items()]
    parts.append(_section("configuration", configuration))
    return "\n\n".join(part for part in parts if part)


def _fields(run: Run) -> list[str]:
    record = run.record
    lines = [f"{key}: {record[key]}" for key in SHOWN_FIELDS if record.get(key) is not None]
    if record.get("wall_seconds") is not None:
        lines.append(f"time: {tables.duration(record['wall_seconds'])}")
    if record.get("peak_memory_bytes"):
        lines.append(f"peak memory: {record['peak_memory_bytes'] / 2**20:.0f} MiB")
    if record.get("command"):
        lines.append("command: " + " ".join(map(str, record["command"])))
    return lines


def metric_rows(run: Run) -> list[tables.Row]:
    """One row per metric, one column per split."""
    names = dict.fromkeys(name for row in run.splits.values() for name in row)
    rows = []
    for name in names:
        row = {"metric": name} | {split: values.get(name) for split, values in run.splits.items()}
        rows.append(row)
    return rows


def file_rows(run: Run) -> list[tables.Row]:
    """The files of the directory with their sizes."""
    files = sorted(path for path in run.path.rglob("*") if path.is_file())
    return [
        {"file": str(path.relative_to(run.path)), "bytes": path.stat().st_size} for path in files
    ]


def _section(title: str, rows: list[tables.Row]) -> str:
    return f"{title}\n{tables.render(rows)}" if rows else ""
