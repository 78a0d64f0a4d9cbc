"""Two processes give the losses and scores of one, up to rounding."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_cli.cli import main

ROOT = Path(__file__).resolve().parents[3]
SMALL = [
    "task=lamost",
    "data.n_spectra=300",
    "data.n_test=41",
    "data.length=256",
    "model.filters=[16,16,32]",
    "task.batch_size=33",
    "task.cross_entropy.steps=6",
    "task.soft_f1.steps=6",
    "task.evaluate_every=3",
    "task.augment.noise=0.1",
    "task.class_weights=[1,1,2,3]",
    "device.threads=1",
    "precision=fp32",
    "device=cpu",
]


def losses(folder: Path) -> list[tuple[int, str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["stage"], row["loss"]) for row in rows if "loss" in row]


def probabilities(folder: Path) -> dict[str, list[float]]:
    with (folder / "predictions.csv").open() as file:
        return {row["id"]: [float(row[n]) for n in ("star", "qso")] for row in csv.DictReader(file)}


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    main([*SMALL, f"run_dir={tmp_path / 'one'}"])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517"]
    subprocess.run(
        [sys.executable, *launcher, "-m", "kexue_cli", *SMALL, f"run_dir={tmp_path / 'two'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=240,
        check=True,
        cwd=tmp_path,
    )
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [row[:2] for row in one] == [row[:2] for row in two]
    assert {stage for _, stage, _ in one} == {"cross_entropy", "soft_f1"}
    for (step, stage, mine), (*_, theirs) in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4), (step, stage)
    alone, together = (probabilities(tmp_path / name) for name in ("one", "two"))
    assert alone.keys() == together.keys()
    assert len(alone) == 41
    for name, values in alone.items():
        assert together[name] == pytest.approx(values, abs=2e-3)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["ranks"] == 2
