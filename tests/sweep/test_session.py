from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep import session
from kexue_cli.sweep.job import error_of, one_line, status_of

Sweep = Callable[..., int]
Journal = Callable[[], list[str]]
Directory = Callable[[], Path]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_runs_once_in_its_own_directory(
    sweep: Sweep, journal: Journal, directory: Directory
) -> None:
    assert sweep("task=lamost", "model.dropout=0.1,0.2", "seed=range(3)") == 0
    commands = journal()
    assert len(commands) == len(set(commands)) == 6
    rows = rows_of(directory() / "sweep.csv")
    settings = [(row["model.dropout"], row["seed"]) for row in rows]
    assert settings == [(d, s) for d in ("0.1", "0.2") for s in ("0", "1", "2")]
    assert {row["status"] for row in rows} == {"done"}
    assert (directory() / "5" / "run.json").exists()


def test_summary_is_mean_and_sd_over_seeds(
    sweep: Sweep, directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep("task=lamost", "model.dropout=0.1,0.2", "seed=0,1,2")
    rows = rows_of(directory() / "summary.csv")
    values = [0.5, 0.6, 0.7]
    assert [row["model.dropout"] for row in rows] == ["0.1", "0.2"]
    for row in rows:
        assert float(row["valid/macro_f1 mean"]) == pytest.approx(statistics.mean(values))
        assert float(row["valid/macro_f1 sd"]) == pytest.approx(statistics.stdev(values))
    assert "0.6 ± 0.1" in capsys.readouterr().out


def test_exit_crash_and_kill_of_one_job_leave_the_others_alone(
    sweep: Sweep, directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("task=lamost", "limit.rows=1,2,3,5", "seed=7") == 1
    rows = rows_of(directory() / "sweep.csv")
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "failed"]
    assert rows[2]["error"] == "ZeroDivisionError: seed 7 divides by zero"
    report = json.loads((directory() / "jobs" / "2.json").read_text())
    assert report["error"].startswith("Traceback (most recent call last)")
    assert json.loads((directory() / "jobs" / "3.json").read_text())["exit_code"] == -signal.SIGKILL
    assert "seed 7 divides by zero" in capsys.readouterr().err


def test_the_same_command_again_runs_only_what_is_missing_or_failed(
    sweep: Sweep, journal: Journal, directory: Directory
) -> None:
    words = ("task=lamost", "limit.rows=1,3", "seed=0,1")
    sweep(*words)
    assert len(journal()) == 4
    assert sweep(*words, "sweep=last") == 1
    again = journal()
    assert len(again) == 2
    assert all("limit.rows=3" in line for line in again)
    assert sorted(path.name for path in (directory() / "attempts").iterdir()) == ["2-1", "3-1"]
    assert json.loads((directory() / "jobs" / "2.json").read_text())["attempts"] == 2


def test_sweep_last_alone_continues_and_new_values_are_appended(
    sweep: Sweep, journal: Journal, directory: Directory
) -> None:
    sweep("task=lamost", "seed=0,1")
    journal()
    assert sweep("sweep=last") == 0
    assert journal() == []
    assert sweep("task=lamost", "seed=0,1,2", f"sweep={directory()}") == 0
    assert len(journal()) == 1
    assert len(rows_of(directory() / "sweep.csv")) == 3


def test_the_directory_of_another_command_is_refused(sweep: Sweep, journal: Journal) -> None:
    sweep("task=lamost", "seed=0,1")
    journal()
    with pytest.raises(UserError, match="another command"):
        sweep("task=lamost", "seed=0,1", "model.dropout=0.1", "sweep=last")
    assert journal() == []


def test_two_sweeps_of_the_same_second_do_not_collide(
    sweep: Sweep, tmp_path: Path, journal: Journal
) -> None:
    for _ in range(2):
        words = plans.sort_words(["-m", "task=lamost", "seed=0,1"])
        plans.create(words, [("seed=0",), ("seed=1",)], "lamost", [])
    assert len(list(tmp_path.glob("outputs/lamost/sweeps/*/sweep.json"))) == 2


def test_one_directory_belongs_to_one_process(
    sweep: Sweep, journal: Journal, directory: Directory
) -> None:
    sweep("task=lamost", "seed=0,1")
    with (directory() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another kexue-run is working"):
            sweep("sweep=last")


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_sweep_lies_in_its_output_dir_however_that_is_set(plus: str) -> None:
    assert plans.output_dir_of([["task=em", f"{plus}output_dir='there'"]]) == Path("there")


def test_an_empty_sweep_is_not_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "em/sweeps/2026-11-20_10-00-00-aaaa").mkdir(parents=True)
    (tmp_path / "em/sweeps/2026-11-20_10-00-00-aaaa/sweep.json").write_text("{}")
    with pytest.raises(UserError, match="sweep=: is empty"):
        plans.find("", tmp_path)


def test_a_misspelt_key_is_found_before_anything_runs(
    sweep: Sweep, journal: Journal, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="dropuot"):
        sweep("task=lamost", "model.dropuot=0.1,0.2")
    assert journal() == []
    assert not (tmp_path / "outputs").exists()


def test_one_impossible_combination_does_not_stop_the_others(
    sweep: Sweep, journal: Journal, directory: Directory
) -> None:
    sweep("task=lamost", "model.dropout=0.1,nonsense", "seed=0")
    assert len(journal()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=x"], "sweep="),
        (["output_dir=a,b"], "one folder"),
        (["hydra/sweeper=optuna"], "kexue tune"),
        (["hydra.sweep.dir=x"], "output_dir"),
        (["hydra/launcher=ray"], r"kexue-cli\[ray\]"),
        (["sweep=nowhere"], "no such sweep"),
    ],
)
def test_what_makes_no_sense_is_said(
    sweep: Sweep, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_cli.sweep.launch._installed", lambda module: False)
    with pytest.raises(UserError, match=message):
        sweep("task=lamost", "seed=0,1", *words)


def test_a_dry_run_lists_the_jobs_and_makes_nothing(
    sweep: Sweep, journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("task=lamost", "model.dropout=0.1,0.2", "seed=0,1", "dry_run=true") == 0
    out = capsys.readouterr().out
    assert out.count("pending") == 4
    assert "model.dropout=0.2 seed=1" in out
    assert journal() == []
    assert not (tmp_path / "outputs").exists()


def test_damaged_sweep_json_is_named(sweep: Sweep, directory: Directory) -> None:
    sweep("task=lamost", "seed=0,1")
    (directory() / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        sweep("sweep=last")


def test_live_table_shows_all_jobs_on_a_terminal(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    sweep("task=lamost", "seed=0,1")
    out = capsys.readouterr().out
    assert "2/2 done" in out
    assert "valid/macro_f1" in out


DRIVER = """
import sys
from kexue_cli.sweep import job, session
from kexue_cli.errors import Interrupted
job.PROGRAM = (sys.executable, {fake!r})
try:
    sys.exit(session.sweep(["-m", *sys.argv[1:]]))
except Interrupted as error:
    sys.exit(128 + error.signal_number)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_saves_its_jobs_and_goes_on_later(
    sweep: Sweep, journal: Journal, directory: Directory, tmp_path: Path, number: signal.Signals
) -> None:
    fake = str(Path(__file__).parent / "fake_program.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = ["task=lamost", "limit.rows=4", "seed=0,1"]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(fake=fake), *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("outputs/lamost/sweeps/*/0/run.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Go on with: kexue-run -m sweep=" in out
    plan = plans.load(directory())
    assert [status_of(plan, n) for n in (0, 1)] == ["interrupted", "pending"]
    assert len(journal()) == 1
    # The interrupted job goes on from its checkpoint instead of starting again.
    plans.save(plans.Plan(plan.directory, plan.jobs[:1], ()), [])
    assert sweep("sweep=last") == 0
    (command,) = journal()
    assert command.startswith(f"resume={directory() / '0'}")


def test_the_error_of_a_job_is_its_last_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("noise\nTraceback (most recent call last)\n  File x\nValueError: bad\n")
    assert error_of({}, log).splitlines()[0].startswith("Traceback")
    assert one_line(error_of({}, log)) == "ValueError: bad"
    log.write_text("noise\nkexue-run: error: data: not there\nmore about it\n")
    assert one_line(error_of({}, log)) == "data: not there"
    assert error_of({"error": "E: x"}, tmp_path / "absent") == "E: x"


def test_session_holds_the_terminal_handlers_only_while_it_runs(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with session.stoppable(tmp_path):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
