"""run.json: what ran, where, with which versions, and how it ended. Torch-free."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kexue_cli import __version__
from kexue_cli.run.directory import SCHEMA_VERSION, RunDirectory

RECORDED_PACKAGES = ("torch", "numpy", "pandas", "hydra-core", "omegaconf", "scikit-learn", "numba")
# Keys which do not change what a run computes.
NOT_HASHED = (
    "resume",
    "output_dir",
    "run_dir",
    "trackers",
    "dry_run",
    "checkpoint_minutes",
    "expected",
    "experiment",
    "profile",
)


class RunRecord:
    """The content of run.json, rewritten whole at every change of status."""

    def __init__(self, directory: RunDirectory, content: dict[str, Any]) -> None:
        self.directory = directory
        self.content = content
        self._started = time.monotonic()
        self._wall_seconds_before = float(content.get("wall_seconds") or 0.0)

    @classmethod
    def start(
        cls, directory: RunDirectory, config: dict[str, Any], overrides: list[str]
    ) -> RunRecord:
        """A record with status "running"; an older one of the same directory is continued."""
        earlier = directory.read_json("run.json")
        content = {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "task": config["task"]["name"],
            "model": config["model"]["name"],
            "data": config["data"]["name"],
            "mode": config["mode"],
            "experiment": config["experiment"],
            "command": ["kexue-run", *sys.argv[1:]],
            "overrides": overrides,
            "config_hash": config_hash(config),
            "data_fingerprint": earlier.get("data_fingerprint"),
            "seed": config["seed"],
            "expected": config["expected"],
            "started": earlier.get("started") or now(),
            "ended": None,
            "wall_seconds": earlier.get("wall_seconds"),
            "error": None,
            "process": process_identity(),
            **environment(),
        }
        record = cls(directory, content)
        record.write()
        return record

    def update(self, **values: Any) -> None:
        """Add or change values and write."""
        self.content.update(values)
        self.write()

    def finish(self, status: str, error: str | None = None) -> None:
        """Write the final status: done, interrupted or failed."""
        wall_seconds = self._wall_seconds_before + time.monotonic() - self._started
        self.update(
            status=status,
            error=error,
            ended=now(),
            wall_seconds=round(wall_seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
        )

    def write(self) -> None:
        """Write run.json."""
        self.directory.write_json("run.json", self.content)


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 (first 16 hex digits) of what determines the result."""
    kept = {key: value for key, value in config.items() if key not in NOT_HASHED}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions, platform and git commit."""
    versions = {"kexue-cli": __version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "platform": platform.platform(), "git_commit": git_commit()}


def git_commit() -> str | None:
    """The commit of the source tree the package runs from, "+" appended where it was changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (commit + ("+" if changed else "")) or None


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def process_identity() -> dict[str, Any]:
    """Host, process number and its start, so that a reader can tell whether the run still lives."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start_ticks": process_start_ticks(os.getpid()),
    }


def process_start_ticks(pid: int) -> int | None:
    """Start of a process in kernel ticks since boot (Linux); None where it cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not asked how.
    return None if state == "Z" else int(numbers[18])


def is_alive(process: dict[str, Any]) -> bool:
    """Whether the process of a run.json still runs; True where it is on another host."""
    if process.get("host") != socket.gethostname():
        return True
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    ticks = process.get("start_ticks")
    return ticks is None or process_start_ticks(pid) == ticks
