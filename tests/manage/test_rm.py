"""`kexue rm` deletes what was named: no more, and no less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_runs import write_run

Kexue = Callable[..., tuple[int, str, str]]
STAMP = "2026-11-20_10-00-00-aaaa"


@pytest.fixture
def one(root: Path) -> Path:
    return write_run(root / "lamost/m" / STAMP)


@pytest.mark.parametrize("name", ["", " "])
@pytest.mark.parametrize("command", [["rm", "--yes"], ["show"], ["compare"], ["report"]])
def test_an_empty_name_means_no_run(
    one: Path,
    root: Path,
    kexue: Kexue,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    name: str,
) -> None:
    monkeypatch.chdir(root)
    code, _, err = kexue(*command, name)
    assert code == 2
    assert "the name of a run is empty" in err
    assert one.exists()


@pytest.mark.parametrize("name", [".", "lamost", "lamost/m"])
def test_a_folder_that_merely_holds_runs_is_kept(
    one: Path, root: Path, kexue: Kexue, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(root)
    code, _, err = kexue("rm", "--yes", name)
    assert code == 2
    assert f"{name} is neither a run nor a sweep" in err
    assert one.exists()


def test_the_run_one_stands_in_can_be_named_by_a_dot(
    one: Path, kexue: Kexue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(one)
    assert kexue("rm", "--yes", ".")[0] == 0
    assert not one.exists()


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_a_sweep_goes_whole_however_many_jobs_it_has(root: Path, kexue: Kexue, jobs: int) -> None:
    sweep = root / "lamost/sweeps" / STAMP
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    for number in range(jobs):
        write_run(sweep / str(number))
    names = [str(sweep), *(f"{sweep}/{number}" for number in range(jobs))]
    assert kexue("rm", "--yes", *names)[0] == 0
    assert list(sweep.parent.iterdir()) == []


def test_of_a_linked_run_only_the_link_goes(one: Path, root: Path, kexue: Kexue) -> None:
    link = root / "lamost/m/2026-11-20_10-00-01-bbbb"
    link.symlink_to(one)
    assert kexue("rm", "--yes", link)[0] == 0
    assert list(link.parent.iterdir()) == [one]
    assert (one / "run.json").exists()
