"""task=vae as a user runs it."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("task=vae", "limit.steps=6", "limit.rows=60", "task.nll_samples=20", "task.bounds=[5]")


def run_in(kexue_run: Run, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return kexue_run(*SHORT, f"run_dir={folder}", *words)


def test_a_run_reports_named_numbers_a_submission_and_pictures(
    kexue_run: Run, tmp_path: Path
) -> None:
    done = run_in(kexue_run, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    test = metrics["test"]
    assert {"nll_is20_dynamic", "neg_bound_k5_dynamic", "active_units", "kl_latent/1"} <= set(test)
    assert test["kl"] == pytest.approx(test["kl_mean"] + test["kl_variance"], rel=1e-5)
    total = test["reconstruction_dynamic"] + test["kl"]
    assert test["neg_elbo_dynamic"] == pytest.approx(total, rel=1e-5)
    assert metrics["primary"]["name"] == "neg_elbo_dynamic"
    with (tmp_path / "run/submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert list(rows[0]) == ["id", "z0", "z1", "log_likelihood_bound"]
    mean = np.mean([float(row["log_likelihood_bound"]) for row in rows])
    assert mean == pytest.approx(-test["neg_elbo_dynamic"], abs=1.5)  # another draw of z
    made = {path.stem for path in (tmp_path / "run/plots").glob("*.png")}
    assert made == {"samples", "reconstructions", "latent_grid", "latent_scatter"}


def test_generate_reads_a_run_and_writes_arrays(kexue_run: Run, tmp_path: Path) -> None:
    assert run_in(kexue_run, tmp_path / "run", "model=cvae").returncode == 0
    words = ("model=cvae", "mode=generate", f"checkpoint={tmp_path / 'run'}")
    done = run_in(kexue_run, tmp_path / "pictures", *words)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "pictures/generated.npz") as arrays:
        assert arrays["latent_grid"].shape == (225, 8, 8)
        assert arrays["samples"].shape == (100, 8, 8)  # ten of each class
        assert arrays["interpolations"].shape == (50, 8, 8)


@pytest.mark.parametrize(
    "words",
    [
        ("model=vae_conv",),
        ("model=iwae_mlp", "model.layers=2", "task.objective=iwae", "task.samples=5"),
        ("model=vae_linear", "task.kl=stl"),
        ("model=vae_gumbel",),
        ("model=vae_vmf",),
        ("model.likelihood=discretised_logistic", "task.kl_warmup_epochs=2", "task.free_bits=0.1"),
    ],
)
def test_every_model_runs(kexue_run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run_in(kexue_run, tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert np.isfinite(metrics["primary"]["value"])


def test_gray_cross_entropy_is_never_called_a_likelihood(kexue_run: Run, tmp_path: Path) -> None:
    done = run_in(kexue_run, tmp_path / "run", "task.pixels=gray")
    assert "no log-likelihood" in done.stdout
    test = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert "gray_bce_plus_kl" in test
    assert not [name for name in test if "nll" in name or "elbo" in name]


def test_a_study_prints_and_writes_its_table(kexue_run: Run, tmp_path: Path) -> None:
    words = ("experiment=vae_beta", "data=digits", "limit.steps=5", "task.study_values=[0,1]")
    done = kexue_run(*words, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["beta"]) for row in rows] == [0.0, 1.0]
    assert "beta on digits" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task.objective=iwea",), "task.objective"),
        (("task.samples=100000000",), "task.batch_size"),
        (("data=mnist_static", "model=cvae"), "no labels"),
        (("model=vae_vmf", "task.objective=dreg"), "dreg"),
        (("model=vae_conv", "model.filters=[8,8,8,8]"), "divisible"),
    ],
)
def test_bad_input_names_the_key(
    kexue_run: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = run_in(kexue_run, tmp_path / "run", *words)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_images_without_labels_are_refused_for_cvae(kexue_run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8)))
    words = ("model=cvae", "data=images", f"data.path={tmp_path / 'own.npz'}")
    done = run_in(kexue_run, tmp_path / "run", *words)
    assert done.returncode != 0
    assert "no labels" in done.stdout + done.stderr


def test_a_sample_of_the_sorted_static_file_is_warned_of(
    kexue_run: Run, tmp_path: Path, data_dir: Path
) -> None:
    words = ("data=mnist_static", f"data.root={data_dir}/mnist_static")
    done = run_in(kexue_run, tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert "sorted by class" in done.stdout
