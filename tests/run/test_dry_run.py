from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from kexue_cli.run.dry_run import say_cost
from kexue_cli.run.profiling import profiled
from tests.toy import ToyTask

KexueRun = Callable[..., subprocess.CompletedProcess[str]]


def test_dry_run_says_parameters_and_steps_and_leaves_the_weights_alone(
    make_context: Callable[..., object], capsys: object
) -> None:
    ctx = make_context(dry_run=True)
    said: list[str] = []
    tables: dict[str, list[dict[str, object]]] = {}
    ctx.console.say = said.append  # type: ignore[attr-defined]
    ctx.console.table = tables.__setitem__  # type: ignore[attr-defined]
    task = ToyTask(ctx.cfg)  # type: ignore[attr-defined]
    before = [p.clone() for p in task.model.parameters()]
    say_cost(task, ctx)  # type: ignore[arg-type]
    assert tables["Cost"][0]["parameters"] == "57"
    assert [row["steps"] for row in tables["Stages"]] == [30, 30]
    assert all(row["seconds per step"] > 0 for row in tables["Stages"])  # type: ignore[operator]
    assert any("nothing was trained" in line for line in said)
    after = list(task.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_dry_run_leaves_no_run_directory(kexue_run: KexueRun, tmp_path: Path) -> None:
    done = kexue_run("task=lamost", "--dry-run", "limit.rows=200")
    assert done.returncode == 0, done.stderr
    assert "748,324" in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_profile_writes_trace_and_tables(make_context: Callable[..., object]) -> None:
    ctx = make_context(profile=True)
    with profiled(ctx):  # type: ignore[arg-type]
        torch.ones(50, 50) @ torch.ones(50, 50)
    folder = ctx.directory.path / "profile"  # type: ignore[attr-defined]
    assert "aten::mm" in (folder / "operations.txt").read_text()
    assert "function calls" in (folder / "python.txt").read_text()
    assert (folder / "trace.json").stat().st_size > 100
