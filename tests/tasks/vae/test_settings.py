"""Settings that are refused before any work: ranges, and objectives a model cannot have."""

from __future__ import annotations

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from kexue_cli.check import check
from kexue_cli.config import register_schemas
from kexue_cli.errors import ConfigError
from kexue_cli.paths import conf_dir

CONV = "model=vae_conv"
DEEP = "model=iwae_mlp model.layers=2"
GUMBEL = "model=vae_gumbel"


def checked(words: str) -> None:
    register_schemas()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        check(hydra.compose("config", ["task=vae", *words.split()]))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("task.bounds=[0]", "task.bounds[0]"),
        ("task.bounds=[5,-3]", "task.bounds[1]"),
        ("task.nll_images=0", "task.nll_images"),
        ("task.rows_in_flight=-5", "task.rows_in_flight"),
        ("task.free_bits=nan", "task.free_bits"),
        ("task.beta=nan", "task.beta"),
        ("model.latent=0", "model.latent"),
        ("model.latent=-1", "model.latent"),
        ("model.hidden=[0]", "model.hidden[0]"),
        ("model.hidden=[256,-4]", "model.hidden[1]"),
        ("model.activation=foo", "model.activation"),
        ("model.sigma_floor=-1", "model.sigma_floor"),
        (f"{CONV} model.filters=[0]", "model.filters[0]"),
        (f"{CONV} model.filters=[]", "model.filters"),
        (f"{CONV} model.dense=0", "model.dense"),
        (f"{GUMBEL} model.categories=0", "model.categories"),
        (f"{GUMBEL} model.categories=1", "model.categories"),
        (f"{GUMBEL} model.variables=0", "model.variables"),
        (f"{GUMBEL} model.temperature_end=-1", "model.temperature_end"),
        (f"{GUMBEL} model.temperature_decay=2", "model.temperature_decay"),
        (f"{DEEP} model.top_hidden=0", "model.top_hidden"),
        (f"{DEEP} model.top_latent=0", "model.top_latent"),
        ("model=vae_vmf model.latent=2", "model.latent"),
        ("model=vae_vmf model.kappa=nan", "model.kappa"),
        ("model=vae_linear model.sigma=pixel", "model.sigma"),
        ("experiment=vae_beta task.study_values=[-1]", "task.study_values[0]"),
        ("experiment=vae_beta task.study_values=[1,nan]", "task.study_values[1]"),
        ("experiment=vae_samples task.study_values=[1.5]", "task.study_values"),
        ("experiment=vae_samples task.study_values=[0]", "task.study_values[0]"),
        ("experiment=iwae_table task.study_objectives=[FOO]", "task.study_objectives"),
    ],
)
def test_a_setting_out_of_range_is_named(words: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked(words)
    assert error.value.key == key


@pytest.mark.parametrize(
    "words",
    [
        f"{GUMBEL} task.objective=reinforce",
        "model=vae_vmf task.objective=reinforce_baseline",
        f"{DEEP} task.objective=reinforce",
        f"{DEEP} task.objective=dreg",
        "model=vae_vmf task.objective=two_penalties",
        "model=cvae task.objective=reinforce",
        "model=cvae task.objective=prior_sampling",
        "model.likelihood=gaussian task.objective=prior_sampling",
        "model=vae_linear task.objective=prior_sampling",
    ],
)
def test_an_objective_that_a_model_cannot_have_is_named(words: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.objective: .*; use iwae"):
        checked(words)


@pytest.mark.parametrize(
    "words",
    [
        "experiment=vae_reinforce model=vae_vmf",
        "experiment=vae_reinforce model=cvae",
        "experiment=vae_kl_form model=cvae",
        "experiment=vae_prior_sampling model.likelihood=gaussian",
    ],
)
def test_a_study_of_an_objective_that_a_model_cannot_have_is_named(words: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.study: "):
        checked(words)


@pytest.mark.parametrize("path", sorted((conf_dir() / "experiment").glob("*vae_*.yaml")))
def test_every_experiment_passes(path: object) -> None:
    checked(f"experiment={getattr(path, 'stem', '')}")


@pytest.mark.parametrize(
    "words",
    ["task.nll_samples=0", "task.bounds=[]", "model.hidden=[]", "model=cvae task.objective=iwae"],
)
def test_the_ends_of_the_ranges_are_taken(words: str) -> None:
    checked(words)
