from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_cli.sweep import job, session

FAKE = (sys.executable, str(Path(__file__).parent / "fake_program.py"))


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The commands that the fake program was started with since the last look."""
    path = tmp_path / "journal"
    monkeypatch.setenv("FAKE_JOURNAL", str(path))

    def read() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


@pytest.fixture
def sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: Callable[[], list[str]]
) -> Callable[..., int]:
    """`kexue-run -m …` in this process, in an empty folder, with the fake program as the job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "PROGRAM", FAKE)
    monkeypatch.setattr(sys, "argv", ["kexue-run"])

    def run(*words: str) -> int:
        return session.sweep(["-m", *words])

    return run


def only_sweep(folder: Path) -> Path:
    """The one sweep directory there is."""
    (found,) = folder.glob("outputs/*/sweeps/*/sweep.json")
    return found.parent


@pytest.fixture
def directory(tmp_path: Path) -> Callable[[], Path]:
    return lambda: only_sweep(tmp_path)
