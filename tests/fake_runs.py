"""Run directories as the runner writes them, made in no time: for tests and benches of readers."""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kexue_cli.run.record import process_start_ticks

CLASSES = ("galaxy", "qso", "star")


def write_run(
    path: Path,
    *,
    status: str = "done",
    task: str = "lamost",
    model: str = "conv1d_res",
    data: str = "dash_sn",
    seed: int = 0,
    value: float = 0.8,
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    **record: Any,
) -> Path:
    """Write run.json, config.yaml, metrics.json and metrics.jsonl; `settings` are dotted keys."""
    path.mkdir(parents=True)
    settings = dict(settings or {})
    overrides = [f"task={task}", f"model={model}", f"data={data}", f"seed={seed}"]
    overrides += [f"{key}={value}" for key, value in settings.items()]
    content = {
        "schema_version": 1,
        "status": status,
        "task": task,
        "model": model,
        "data": data,
        "mode": "train",
        "experiment": None,
        "command": ["kexue-run", *overrides],
        "overrides": overrides,
        "config_hash": "0123456789abcdef",
        "data_fingerprint": "f" * 64,
        "seed": seed,
        "expected": {},
        "started": "2026-11-20T10:00:00+00:00",
        "ended": "2026-11-20T10:01:05+00:00",
        "wall_seconds": 65.0,
        "peak_memory_bytes": 500 * 2**20,
        "error": None,
        "process": this_process(),
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "platform": "Linux",
        "git_commit": "0" * 40,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    } | record
    write_json(path / "run.json", content)
    config: dict[str, Any] = {
        "task": {"name": task},
        "model": {"name": model, "filters": 64},
        "data": {"name": data},
        "optim": {"lr": 0.001},
        "seed": seed,
        "expected": content["expected"],
    }
    for key, setting in settings.items():
        put(config, key, setting)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if status == "done":
        primary = {"name": "macro_f1", "value": value, "mode": "max", "split": "valid"}
        splits = metrics or {"valid": {"macro_f1": value, "accuracy": 0.9}}
        write_json(path / "metrics.json", {"primary": primary, **splits})
    lines = [{"step": step, "split": "train", "loss": 1 / (step + 1)} for step in range(5)]
    lines += [{"step": step, "split": "valid", "macro_f1": 0.1 * step} for step in range(5)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """A CSV with a header."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_json(path: Path, content: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(content))


def put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in nested dicts."""
    *parents, last = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def this_process() -> dict[str, Any]:
    """The process entry of a run that is alive: this very process."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "start_ticks": process_start_ticks(pid)}


def dead_process() -> dict[str, Any]:
    """The process entry of a run that was killed: our number, another start."""
    return this_process() | {"start_ticks": 1}
