from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import store
from tests.fake_runs import dead_process, this_process, write_json, write_run

A = "2026-11-20_10-00-00-aaaa"
B = "2026-11-20_11-00-00-bbbb"


def test_runs_and_sweep_jobs_are_found_oldest_first(root: Path) -> None:
    write_run(root / "lamost" / "conv1d_res" / B, started="2026-11-20T11:00:00+00:00")
    write_run(root / "em" / "gmm" / A, started="2026-11-20T10:00:00+00:00")
    write_run(
        root / "lamost/sweeps/2026-11-20_09-00-00-cccc/10", started="2026-11-20T09:10:00+00:00"
    )
    write_run(root / "lamost/sweeps/2026-11-20_09-00-00-cccc/attempts/10-1")
    names = [run.name for run in store.find_runs(root)]
    assert names == ["2026-11-20_09-00-00-cccc/10", A, B]


def test_a_run_whose_process_is_gone_is_interrupted(root: Path) -> None:
    alive = write_run(root / "t/m" / A, status="running", process=this_process())
    dead = write_run(root / "t/m" / B, status="running", process=dead_process())
    assert store.read_run(alive).status == "running"
    assert store.read_run(dead).status == "interrupted"


def test_half_deleted_run_is_read_as_far_as_it_goes(root: Path) -> None:
    path = write_run(root / "t/m" / A)
    (path / "run.json").unlink()
    (path / "config.yaml").unlink()
    (run,) = store.find_runs(root)
    assert run.status == "unreadable"
    assert run.problem == "has no run.json"
    assert run.config == {}
    assert run.primary["value"] == 0.8


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"status": "done"}', "\x00\xff"])
def test_damaged_run_json_is_named_not_raised(root: Path, content: str) -> None:
    path = write_run(root / "t/m" / A)
    (path / "run.json").write_text(content)
    (run,) = store.find_runs(root)
    assert run.problem is not None
    assert "run.json" in run.problem


def test_newer_schema_is_read_and_said(root: Path) -> None:
    write_run(root / "t/m" / A, schema_version=99, added_later={"x": 1})
    (run,) = store.find_runs(root)
    assert "newer version (schema 99" in (run.problem or "")
    assert run.status == "done"


def test_directory_deleted_during_the_walk_is_no_error(root: Path) -> None:
    path = write_run(root / "t/m" / A)
    shutil.rmtree(path)
    assert store.read_run(path).problem == "has no run.json"


def test_null_primary_and_missing_metrics_are_empty(root: Path) -> None:
    path = write_run(root / "t/m" / A)
    write_json(path / "metrics.json", {"primary": None, "valid": {"x": 1.0}})
    assert store.read_run(path).primary == {}
    assert store.read_run(path).splits == {"valid": {"x": 1.0}}


def test_names_a_user_types(root: Path) -> None:
    first = write_run(root / "t/m" / A, started="2026-11-20T10:00:00+00:00")
    second = write_run(root / "t/m" / B, started="2026-11-20T11:00:00+00:00")
    assert store.resolve_one("aaaa", root).path == first
    assert store.resolve_one(str(second), root).path == second
    assert store.resolve_one("last", root).path == second
    with pytest.raises(UserError, match="fits 2 runs"):
        store.resolve_one("2026", root)
    with pytest.raises(UserError, match="no run is called 'zzzz'"):
        store.resolve_one("zzzz", root)


def test_a_sweep_is_all_its_jobs_in_order(root: Path) -> None:
    sweep = root / "t/sweeps" / A
    for number in (10, 2, 0):
        write_run(sweep / str(number), seed=number)
    write_json(sweep / "sweep.json", {})
    assert [run.path.name for run in store.resolve(str(sweep), root)] == ["0", "2", "10"]
    assert [run.path.name for run in store.resolve("aaaa", root)] == ["0", "2", "10"]
    with pytest.raises(UserError, match="sweep of 3 runs"):
        store.resolve_one(str(sweep), root)


def test_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--root"):
        store.find_runs(tmp_path / "nowhere")
