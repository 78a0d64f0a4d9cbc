"""task=vae as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets as sklearn_datasets

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.vae import memory
from kexue_cli.tasks.vae.builders import Images, vae_conv, vae_mlp
from kexue_cli.tasks.vae.cells import Group, Recipe
from kexue_cli.tasks.vae.pixels import protocol_for
from tests.tasks.vae.runs import Finished, run

SHORT = ("task=vae", "limit.steps=6", "limit.rows=60", "task.nll_samples=20", "task.bounds=[5]")


def short(folder: Path, *words: str) -> Finished:
    return run(folder, *SHORT, *words)


def test_a_run_reports_named_numbers_a_submission_and_pictures(tmp_path: Path) -> None:
    done = short(tmp_path / "run")
    assert done.returncode == 0, done.printed
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


def test_generate_reads_a_run_and_writes_arrays(tmp_path: Path) -> None:
    assert short(tmp_path / "run", "model=cvae").returncode == 0
    words = ("model=cvae", "mode=generate", f"checkpoint={tmp_path / 'run'}")
    done = short(tmp_path / "pictures", *words)
    assert done.returncode == 0, done.printed
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
def test_every_model_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = short(tmp_path / "run", *words)
    assert done.returncode == 0, done.printed
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert np.isfinite(metrics["primary"]["value"])


def test_gray_cross_entropy_is_never_called_a_likelihood(tmp_path: Path) -> None:
    done = short(tmp_path / "run", "task.pixels=gray")
    assert "no log-likelihood" in done.printed
    test = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert "gray_bce_plus_kl" in test
    assert not [name for name in test if "nll" in name or "elbo" in name]


def test_a_study_prints_and_writes_its_table(tmp_path: Path) -> None:
    words = ("experiment=vae_beta", "data=digits", "limit.steps=5", "task.study_values=[0,1]")
    done = run(tmp_path / "run", *words)
    assert done.returncode == 0, done.printed
    with (tmp_path / "run/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["beta"]) for row in rows] == [0.0, 1.0]
    assert "beta on digits" in done.printed


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
def test_bad_input_names_the_key(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = short(tmp_path / "run", *words)
    assert done.returncode != 0
    assert message in done.printed
    assert "Traceback" not in done.printed


@pytest.mark.parametrize(
    ("images_that_fit", "advice"),
    [
        (20, "Split the batch: task.batch_size=10 optim.accumulate=10"),
        (0.5, "Not even one image fits: give task.batch_size=1 and at most 12 samples"),
    ],
)
def test_what_cannot_fit_is_told_with_what_can(
    monkeypatch: pytest.MonkeyPatch, images_that_fit: float, advice: str
) -> None:
    images = Images((8, 8), 17, 0, np.full(64, 0.5))
    generators = [torch.Generator().manual_seed(0)]
    model = vae_mlp(images, generators, 2, [16], "relu", "bernoulli", "fixed", 1.0, 0.1)
    protocol = protocol_for("dynamic", "bernoulli", 17, 64)
    group = Group(model, Recipe(samples=50), protocol)
    row = memory.BACKWARD * memory.bytes_per_row(model, 64, 0)
    monkeypatch.setattr(memory, "available_bytes", lambda device: images_that_fit * 50 * row)
    with pytest.raises(ConfigError) as error:
        memory.check([group], 100, 64, 0, torch.device("cpu"))
    assert advice in str(error.value)


def test_images_without_labels_are_refused_for_cvae(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8)))
    words = ("model=cvae", "data=images", f"data.path={tmp_path / 'own.npz'}")
    done = short(tmp_path / "run", *words)
    assert done.returncode != 0
    assert "no labels" in done.printed


def test_a_sample_of_the_sorted_static_file_is_warned_of(tmp_path: Path, data_dir: Path) -> None:
    words = ("data=mnist_static", f"data.root={data_dir}/mnist_static")
    done = short(tmp_path / "run", *words)
    assert done.returncode == 0, done.printed
    assert "sorted by class" in done.printed


def test_a_submission_row_belongs_to_the_image_of_its_id(tmp_path: Path) -> None:
    done = short(tmp_path / "run", "task.pixels=gray", "precision=fp32")
    assert done.returncode == 0, done.printed
    saved = torch.load(tmp_path / "run/checkpoints/best.pt", weights_only=True)["state"]
    weights = {name: value[0].numpy() for name, value in saved["task"]["weights"].items()}
    pictures = sklearn_datasets.load_digits().images.reshape(-1, 64) / 16
    with (tmp_path / "run/submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids = [int(row["id"]) for row in rows]
    assert len(set(ids)) == 60
    hidden = pictures[ids] @ weights["0.encoder.layers.0.weight"]
    hidden = np.maximum(hidden + weights["0.encoder.layers.0.bias"], 0)
    means = hidden @ weights["0.latent.mean.weight"] + weights["0.latent.mean.bias"]
    found = np.array([[float(row["z0"]), float(row["z1"])] for row in rows])
    np.testing.assert_allclose(found, means, atol=1e-4)
    assert np.abs(found - means[::-1]).max() > 1e-2  # the ids do matter


@pytest.mark.parametrize("model", ["vae_mlp", "vae_conv"])
def test_the_estimate_of_memory_is_what_autograd_keeps(model: str) -> None:
    images = Images((8, 8), 17, 10, np.full(64, 0.3))
    generators = [torch.Generator().manual_seed(0)]
    options: dict[str, Any] = {"latent": 2, "likelihood": "bernoulli", "sigma": "fixed"}
    more: dict[str, Any] = {"sigma_value": 1.0, "sigma_floor": 0.1}
    if model == "vae_mlp":
        made = vae_mlp(images, generators, hidden=[256], activation="relu", **options, **more)
        per_row = 4 * (2 + 2 + 256 + 64)  # z, noise, hidden layer, sigmoid of the logits
    else:
        made = vae_conv(images, generators, filters=[4, 8], dense=5, **options, **more)
        per_row = 4 * (2 + 2 + 2 * 2 * 8 + 8 * 4 * 4 + 4 * 8 * 8 + 64)  # and every feature map
    assert memory.bytes_per_row(made, 64, 10) == pytest.approx(per_row, rel=0.75)
