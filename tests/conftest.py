"""What tests of all rooms share. Results are computed on one thread so that they are repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("KEXUE_DATA_DIR", ROOT / "data"))
    if not any(folder.glob("*/")):
        pytest.skip(f"no data sets in {folder}: set KEXUE_DATA_DIR to run the tests on real data")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never see (or fill) the user's cache of converted data."""
    former = os.environ.get("KEXUE_CACHE_DIR")
    os.environ["KEXUE_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if former is not None:
        os.environ["KEXUE_CACHE_DIR"] = former


@pytest.fixture
def kexue_run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `kexue-run <words>` as a user would, in an empty folder; returns the finished process."""

    def call(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kexue_cli", *words]
        defaults = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 240}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        return subprocess.run(command, env=environment, **{**defaults, **options})

    return call


@pytest.fixture
def make_context(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make the context of a toy run in a fresh run directory on the CPU; closed after the test."""
    from tests.toy import toy_context

    made: list[Any] = []

    def make(**changes: Any) -> Any:
        made.append(toy_context(tmp_path / "runs", **changes))
        return made[-1]

    yield make
    for context in made:
        context.log.close()
