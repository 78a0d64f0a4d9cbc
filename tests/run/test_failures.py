"""How a run ends that the disk or the system lets down."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from kexue_cli import cli, runner
from kexue_cli.run.context import Context
from tests.toy import ToyTask

Make = Callable[..., Context]


def disk_full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_picture_that_cannot_be_written_costs_no_run(
    make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, said = make_context(), list[str]()
    monkeypatch.setattr(ToyTask, "plots", disk_full)
    monkeypatch.setattr(ctx.console, "warn", said.append)
    runner._plot(ToyTask(ctx.cfg), ctx)
    assert said == ["no pictures: [Errno 28] No space left on device"]


def test_a_full_disk_is_one_line_and_the_traceback_lies_in_the_log(
    make_context: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = make_context()
    ctx.console.quiet = False
    ctx.console.open_log(ctx.directory.path / "run.log")

    def start(_: list[str]) -> None:
        with runner._disk_errors_named(ctx.directory.path), runner._status_recorded(ctx):
            disk_full()

    monkeypatch.setattr(cli, "_start", start)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["task=em"])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{ctx.directory.path}: cannot be written, the disk is full" in line
    assert "Traceback" in (ctx.directory.path / "run.log").read_text()
    assert ctx.directory.read_json("run.json")["status"] == "failed"


def test_a_log_that_cannot_be_written_does_not_hide_the_error(
    make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = make_context()
    monkeypatch.setattr(ctx.record, "finish", disk_full)
    monkeypatch.setattr(ctx.console, "to_log", disk_full)
    with pytest.raises(RuntimeError, match="itself"), runner._status_recorded(ctx):
        raise RuntimeError("itself")
