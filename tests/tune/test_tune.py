from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexue_cli.errors import UserError
from kexue_cli.manage import cli
from kexue_cli.sweep import job
from kexue_cli.tune import space as spaces

pytest.importorskip("optuna", reason="needs the extra [tune]")

FAKE = Path(__file__).parents[1] / "sweep" / "fake_program.py"
SPACE = {
    "metric": "valid/macro_f1",
    "direction": "maximize",
    "overrides": ["task=lamost", "model=conv1d_res"],
    "space": {"optim.lr": {"low": 1.0e-5, "high": 0.1, "log": True}},
}
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: Any) -> str:
        path = tmp_path / "s.yaml"
        path.write_text("# a space\n" + yaml.safe_dump({**SPACE, **changes}))
        return str(path)

    return write


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`kexue tune …` in this process, with the fake program as the run."""
    monkeypatch.setattr(job, "PROGRAM", (sys.executable, str(FAKE)))
    monkeypatch.setenv("FAKE_JOURNAL", str(tmp_path / "journal"))
    return lambda *words: cli.main(["tune", *words, "--root", str(tmp_path / "outputs")])


@pytest.fixture
def directory(tmp_path: Path) -> Callable[[], Path]:
    def find() -> Path:
        (found,) = tmp_path.glob("outputs/*/sweeps/*/study.json")
        return found.parent

    return find


def trials(directory: Path) -> list[dict[str, str]]:
    with (directory / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def runs_of(tmp_path: Path) -> int:
    path = tmp_path / "journal"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_search_finds_the_best_and_writes_it_as_an_experiment(
    tune: Callable[..., int], write_space: Callable[..., str], directory: Callable[[], Path]
) -> None:
    assert tune(write_space(), "--trials", "6", "--pruner", "none", "data=synthetic_spectra") == 0
    rows = trials(directory())
    assert [row["state"] for row in rows] == ["complete"] * 6
    best = max(rows, key=lambda row: float(row["valid/macro_f1"]))
    text = (directory() / "experiment" / "best.yaml").read_text()
    experiment = yaml.safe_load(text)
    assert text.startswith("# @package _global_")
    assert {"override /model": "conv1d_res"} in experiment["defaults"]
    assert experiment["optim"]["lr"] == pytest.approx(float(best["optim.lr"]))
    assert (directory() / "plots" / "history.png").stat().st_size > 1000
    assert json.loads((directory() / "sweep.json").read_text())["jobs"][5]["number"] == 5


def test_the_best_experiment_composes(
    tune: Callable[..., int], write_space: Callable[..., str], directory: Callable[[], Path]
) -> None:
    tune(write_space(), "--trials", "1")
    command = [sys.executable, "-m", "kexue_cli", "--config-dir", str(directory())]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, "experiment=best", "--cfg", "job"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    lr = float(trials(directory())[0]["optim.lr"])
    assert yaml.safe_load(done.stdout)["optim"]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_study_goes_on_to_more_trials(
    tune: Callable[..., int],
    write_space: Callable[..., str],
    directory: Callable[[], Path],
    tmp_path: Path,
    storage: str,
) -> None:
    tune(write_space(), "--trials", "2", "--storage", storage, "--sampler", "random")
    assert tune("--study", "last", "--trials", "4") == 0
    assert len(trials(directory())) == 4
    assert runs_of(tmp_path) == 4
    assert tune("--study", str(directory()), "--trials", "4") == 0
    assert runs_of(tmp_path) == 4


def test_grid_tries_every_combination_once(
    tune: Callable[..., int], write_space: Callable[..., str], directory: Callable[[], Path]
) -> None:
    space = {"optim.lr": [0.001, 0.01], "model.hidden": {"low": 64, "high": 128, "step": 64}}
    assert tune(write_space(space=space), "--trials", "10", "--sampler", "grid") == 0
    settings = {(row["optim.lr"], row["model.hidden"]) for row in trials(directory())}
    assert settings == {(lr, h) for lr in ("0.001", "0.01") for h in ("64", "128")}
    assert len(trials(directory())) == 4


def test_cmaes_and_two_workers(
    tune: Callable[..., int], write_space: Callable[..., str], directory: Callable[[], Path]
) -> None:
    pytest.importorskip("cmaes")
    space = {**SPACE["space"], "model.dropout": {"low": 0.0, "high": 0.5}}  # type: ignore[dict-item]
    words = ("--trials", "6", "--sampler", "cmaes", "--workers", "2")
    assert tune(write_space(space=space), *words) == 0
    assert sum(row["state"] == "complete" for row in trials(directory())) >= 6


def test_hopeless_trials_are_stopped_early(
    tune: Callable[..., int], write_space: Callable[..., str], directory: Callable[[], Path]
) -> None:
    """Four good trials first; those far from the best would run for a minute each."""
    space = {"optim.lr": [0.001, 0.002, 0.0005, 0.0008, 0.1]}
    words = ("--trials", "5", "--sampler", "grid", "--seed", "3", "limit.steps=5")
    begun = time.monotonic()
    assert tune(write_space(space=space), *words) == 0
    states = {row["optim.lr"]: row["state"] for row in trials(directory())}
    if trials(directory())[-1]["optim.lr"] == "0.1":
        assert states["0.1"] == "pruned"
        assert time.monotonic() - begun < 50


def test_a_failing_search_gives_up_and_names_the_logs(
    tune: Callable[..., int],
    write_space: Callable[..., str],
    directory: Callable[[], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tune(write_space(), "limit.rows=3", "--trials", "9") == 2
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.out
    assert "logs" in captured.err
    assert len(trials(directory())) == 3


DRIVER = """
import sys
from kexue_cli.sweep import job
from kexue_cli.manage import cli
job.PROGRAM = (sys.executable, {fake!r})
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_search_asks_again_for_what_was_lost(
    tune: Callable[..., int],
    write_space: Callable[..., str],
    directory: Callable[[], Path],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    words = [
        "tune",
        write_space(),
        "limit.rows=4",
        "--trials",
        "1",
        "--root",
        f"{tmp_path}/outputs",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(fake=str(FAKE)), *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("outputs/*/sweeps/*/0/run.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    process.wait(60)
    if number == signal.SIGKILL:
        # The run outlives the search; it ends by itself, here by our hand.
        os.kill(json.loads((directory() / "0" / "run.json").read_text())["process"]["pid"], 9)
        time.sleep(0.3)
    settings = json.loads((directory() / "study.json").read_text())
    settings["words"] = []
    (directory() / "study.json").write_text(json.dumps(settings))
    assert tune("--study", "last", "--trials", "1") == 0
    first, again = trials(directory())
    assert (first["state"], again["state"]) == ("fail", "complete")
    assert first["optim.lr"] == again["optim.lr"]


def test_locked_storage_is_said_in_words(
    tune: Callable[..., int],
    write_space: Callable[..., str],
    directory: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tune(write_space(), "--trials", "1")
    monkeypatch.setattr("kexue_cli.tune.study.LOCK_SECONDS", 0.2)
    with sqlite3.connect(directory() / "study.db", isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert tune("--study", "last", "--trials", "2") == 2
    connection.close()
    assert "locked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "macro_f1"}, "split/name"),
        ({"direction": "up"}, "maximize or minimize"),
        ({"sampeler": "tpe"}, "Did you mean sampler"),
        ({"space": {"optim.lr": {"low": "1e-4", "high": 1.0}}}, "write 1.0e-4"),
        ({"space": {"optim.lr": {"low": 2, "high": 1}}}, "below high"),
        ({"space": {"optim.lr": {"low": 0, "high": 1, "log": True}}}, "low above 0"),
        ({"space": {"optim.lr": [1]}}, "several choices"),
        ({"space": 3}, "expected the keys"),
    ],
)
def test_a_bad_space_names_file_and_key(
    write_space: Callable[..., str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        spaces.load(write_space(**changes))


def test_a_grid_over_a_continuous_range_is_refused(write_space: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="a grid needs"):
        spaces.grid(spaces.load(write_space()))


def test_misspelt_settings_are_found_before_any_trial(
    tune: Callable[..., int], write_space: Callable[..., str], tmp_path: Path
) -> None:
    assert tune(write_space(), "model.dropuot=0.1") == 2
    assert tune("no_such_space") == 2
    assert tune() == 2
    assert runs_of(tmp_path) == 0


def test_every_search_space_that_is_shipped_is_sound() -> None:
    from kexue_cli.paths import conf_dir

    found = sorted((conf_dir() / "sweep").glob("*.yaml"))
    assert found
    for path in found:
        assert spaces.load(path.stem).parameters
