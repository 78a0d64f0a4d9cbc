from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_cli.sweep import job

LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", ["hydra.launcher.timeout_min=5"]),
    "ray": ("hydra_plugins.hydra_ray_launcher", ["+hydra.launcher.ray.init.num_cpus=2"]),
}


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_runs_every_job_and_keeps_a_failure_to_itself(
    launcher: str, tmp_path: Path
) -> None:
    module, words = LAUNCHERS[launcher]
    if not installed(module):
        pytest.skip(f"{module} is not installed")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "kexue_cli", "-m", "task=lamost", "data=sequences", "seed=0,1"]
    command += [f"data.path={tmp_path}/nowhere.csv", f"hydra/launcher={launcher}", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1, done.stderr
    (directory,) = tmp_path.glob("outputs/lamost/sweeps/*")
    for number in (0, 1):
        report = json.loads((directory / "jobs" / f"{number}.json").read_text())
        assert report["status"] == "failed"
        assert "nowhere" in report["error"]
        assert json.loads((directory / str(number) / "run.json").read_text())["seed"] == number
    assert "0/2 done, 2 failed" in done.stdout
    assert (directory / "sweep.csv").exists()


def test_parallel_jobs_share_cores_and_get_a_gpu_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    with job.share_of_machine(tmp_path, 2) as first, job.share_of_machine(tmp_path, 2) as second:
        assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == "4"
        assert {first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]} == {"4", "7"}
    with job.share_of_machine(tmp_path, 2) as third:
        assert third["CUDA_VISIBLE_DEVICES"] == "4"


def test_a_job_alone_keeps_the_whole_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with job.share_of_machine(tmp_path, 1) as environment:
        assert environment["CUDA_VISIBLE_DEVICES"] == "4,7"
        assert "OMP_NUM_THREADS" not in environment


def test_gpus_hidden_by_the_user_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert job.visible_gpus() == []
