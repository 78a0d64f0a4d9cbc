"""Which objectives a model of task=vae can have. Nothing here imports torch."""

from __future__ import annotations

from typing import Any

from kexue_cli.errors import ConfigError

STUDIED = {  # objective of a study's models or of its gradients, beside the usual ones
    "penalties": "two_penalties",
    "prior_sampling": "prior_sampling",
    "reinforce": "reinforce",
    "signal_to_noise": "dreg",
}
UNLABELLED_STUDIES = ("kl_form", "prior_sampling", "reinforce", "signal_to_noise")
NORMAL_LATENTS = ("dreg", "two_penalties", "reinforce", "reinforce_baseline")  # of one layer
UNLABELLED = ("prior_sampling", "reinforce", "reinforce_baseline")


def check_objectives(cfg: Any) -> None:
    """Whether the model has what the run's objectives work on, a study's own among them.

    Raises:
        ConfigError: naming task.objective or task.study.
    """
    task, model = cfg.task, cfg.model
    _check_objective(cfg, "task.objective", task.objective)
    if task.study in STUDIED:
        _check_objective(cfg, "task.study", STUDIED[task.study])
    if task.study in UNLABELLED_STUDIES and is_labelled(model):
        raise ConfigError("task.study", f"{task.study} needs a model without labels, vae_mlp say")


def _check_objective(cfg: Any, key: str, objective: str) -> None:
    """Whether the model has what `objective`, asked for by `key`, works on."""
    model = cfg.model
    deep = model.name == "iwae_mlp" and model.layers == 2
    if objective in NORMAL_LATENTS and (deep or model.name in ("vae_gumbel", "vae_vmf")):
        raise ConfigError(
            key,
            f"{objective} is for one layer of normal latents, which model={model.name} "
            f"{'with model.layers=2 ' if deep else ''}has not; use iwae or elbo",
        )
    if objective in UNLABELLED and is_labelled(model):
        raise ConfigError(
            key, f"{objective} needs a model without labels, found {model.name}; use iwae or elbo"
        )
    likelihood = "gaussian" if model.name == "vae_linear" else model.get("likelihood", "bernoulli")
    if objective == "prior_sampling" and likelihood != "bernoulli":
        raise ConfigError(
            key, f"prior_sampling is for the likelihood bernoulli, found {likelihood}; use iwae"
        )


def is_labelled(model: Any) -> bool:
    """Whether the model sees the images' classes."""
    return bool(model.get("class_mean_prior") or model.get("conditional"))
