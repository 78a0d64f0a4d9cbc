"""Options of task=vae. Defaults live here; conf/ holds differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kexue_cli.config import (
    ABOVE_0,
    FINITE,
    ModelConfig,
    TaskConfig,
    check_list_ranges,
    check_ranges,
)
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.vae.config_objectives import check_objectives, is_labelled

TAKES = ("images",)
OBJECTIVES = (
    "elbo",
    "iwae",
    "dreg",
    "two_penalties",
    "prior_sampling",
    "reinforce",
    "reinforce_baseline",
)
KL_FORMS = ("analytic", "sampled", "stl")
PIXELS = ("auto", "dynamic", "fixed", "gray", "dequantised")
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "discretised_logistic")
STUDIES = (
    "beta",
    "penalties",
    "decoders",
    "samples",
    "prior_sampling",
    "kl_form",
    "reinforce",
    "signal_to_noise",
    "conditional",
    "iwae_table",
)
ENGINES = ("auto", "native", "plain")
SIGMAS = ("fixed", "learned", "optimal", "pixel")
ACTIVATIONS = ("relu", "tanh")
STUDY_OBJECTIVES = ("VAE", "IWAE")
BETA_STUDIES = ("beta", "penalties")  # the others with values vary k, a number of draws
MOST_DRAWS = 10**9
RANGES = (
    ("task.samples", 1, MOST_DRAWS),
    ("task.batch_size", 1, FINITE),
    ("task.epochs", 1, FINITE),
    ("task.evaluate_every_epochs", 1, FINITE),
    ("task.study_seeds", 1, FINITE),
    ("task.nll_samples", 0, MOST_DRAWS),
    ("task.nll_images", 1, FINITE),
    ("task.rows_in_flight", 1, FINITE),
    ("task.kl_warmup_epochs", 0, FINITE),
    ("task.free_bits", 0, FINITE),
    ("task.beta", 0, FINITE),
    ("task.stages", 1, 8),
    ("model.latent", 1, FINITE),
    ("model.layers", 1, 2),
    ("model.top_latent", 1, FINITE),
    ("model.top_hidden", 1, FINITE),
    ("model.dense", 1, FINITE),
    ("model.variables", 1, FINITE),
    ("model.categories", 2, FINITE),
    ("model.sigma_value", ABOVE_0, FINITE),
    ("model.sigma_floor", ABOVE_0, FINITE),
    ("model.temperature", ABOVE_0, FINITE),
    ("model.temperature_end", ABOVE_0, FINITE),
    ("model.temperature_decay", 0, 1),
    ("model.kappa", ABOVE_0, FINITE),
)
LIST_RANGES = (
    ("task.bounds", 1, MOST_DRAWS),
    ("model.hidden", 1, FINITE),
    ("model.filters", 1, FINITE),
)
MODELS = "kexue_cli.tasks.vae.builders"


@dataclass
class VaeTask(TaskConfig):
    """Training, evaluation and pictures of a variational auto-encoder."""

    name: str = "vae"
    _target_: str = "kexue_cli.tasks.vae.task.VaeTask"
    study: str | None = None  # a table of several models, see conf/experiment/vae_*.yaml
    study_values: list[float] = field(default_factory=list)  # what the study varies; empty: its own
    study_objectives: list[str] = field(default_factory=list)  # iwae_table: VAE, IWAE; empty: both
    study_seeds: int = 1  # models per row that differ in their seed alone

    objective: str = "elbo"  # elbo | iwae | dreg | two_penalties | prior_sampling | reinforce
    samples: int = 1  # draws of z per image while training, the k of the bounds
    kl: str = "analytic"  # analytic | sampled | stl (sampled, sticking the landing)
    beta: float = 1.0  # weight of the KL; of |log sigma^2|^2 in two_penalties
    kl_warmup_epochs: int = 0  # beta rises on a line from 0
    free_bits: float = 0.0  # nats per latent that the KL may have for nothing

    pixels: str = "auto"  # what the model sees: auto | dynamic | fixed | gray | dequantised
    batch_size: int = 100
    epochs: int = 50
    stages: int | None = None  # Burda et al.'s schedule, 3^(i-1) epochs in stage i = 1 .. stages
    shuffle: bool = True
    evaluate_every_epochs: int = 5

    nll_samples: int = 500  # importance samples per image of the test NLL; 0: none
    nll_images: int | None = None  # test images it is averaged over; null: all
    bounds: list[int] = field(default_factory=lambda: [5, 50])  # k of the bounds L_k reported
    engine: str = "auto"  # dense layers on a CPU: auto | native (AVX-512 kernels) | plain (torch)
    rows_in_flight: int | None = None  # decoder rows at once while evaluating; null: by the device


@dataclass
class GaussianModel(ModelConfig):
    """What the models with normal latents share."""

    task: str = "vae"
    latent: int = 2
    likelihood: str = "bernoulli"  # continuous_bernoulli | gaussian | discretised_logistic
    sigma: str = "fixed"  # of gaussian: fixed | learned | optimal | pixel
    sigma_value: float = 1.0  # fixed, or where learning starts
    sigma_floor: float = 0.01  # of pixel


@dataclass
class VaeMlp(GaussianModel):
    """Post I: 784-256-2-256-784."""

    name: str = "vae_mlp"
    _target_: str = f"{MODELS}.vae_mlp"
    hidden: list[int] = field(default_factory=lambda: [256])
    activation: str = "relu"  # relu | tanh
    log_sigma: bool = False  # the encoder's second output is log sigma, not log sigma^2
    bias_from_data: bool = False  # decoder starts at the mean image
    class_mean_prior: bool = False
    conditional: bool = False


@dataclass
class Cvae(VaeMlp):
    """Post I's conditional auto-encoder: labels choose the prior's mean, or enter both networks."""

    name: str = "cvae"
    class_mean_prior: bool = True
    conditional: bool = False


@dataclass
class VaeConv(GaussianModel):
    """The convolutional network of the posts."""

    name: str = "vae_conv"
    _target_: str = f"{MODELS}.vae_conv"
    filters: list[int] = field(default_factory=lambda: [32, 64])
    dense: int = 16


@dataclass
class IwaeMlp(ModelConfig):
    """Burda et al.: one or two layers of latents, tanh."""

    name: str = "iwae_mlp"
    task: str = "vae"
    _target_: str = f"{MODELS}.iwae_mlp"
    layers: int = 1
    latent: int = 50  # next to the image; Burda et al. use 100 with two layers
    hidden: list[int] = field(default_factory=lambda: [200, 200])
    top_latent: int = 50
    top_hidden: int = 100
    bias_from_data: bool = True


@dataclass
class VaeLinear(ModelConfig):
    """Linear encoder and decoder with Gaussian noise: probabilistic PCA at its optimum."""

    name: str = "vae_linear"
    task: str = "vae"
    _target_: str = f"{MODELS}.vae_linear"
    latent: int = 20
    sigma: str = "fixed"  # fixed | learned | optimal: of all pixels, as PCA has it
    sigma_value: float = 1.0


@dataclass
class VaeGumbel(ModelConfig):
    """Discrete latents by Gumbel-softmax."""

    name: str = "vae_gumbel"
    task: str = "vae"
    _target_: str = f"{MODELS}.vae_gumbel"
    variables: int = 32
    categories: int = 10
    filters: list[int] = field(default_factory=lambda: [32, 64])
    dense: int = 32
    temperature: float = 1.0  # at the start; each step multiplies its distance to the end
    temperature_end: float = 0.01
    temperature_decay: float = 0.999


@dataclass
class VaeVmf(ModelConfig):
    """Latents on the unit sphere, von Mises-Fisher posterior of fixed concentration."""

    name: str = "vae_vmf"
    task: str = "vae"
    _target_: str = f"{MODELS}.vae_vmf"
    latent: int = 4
    hidden: list[int] = field(default_factory=lambda: [256])
    kappa: float = 20.0


SCHEMAS = {
    "task/vae": VaeTask,
    "model/vae_mlp": VaeMlp,
    "model/vae_conv": VaeConv,
    "model/cvae": Cvae,
    "model/iwae_mlp": IwaeMlp,
    "model/vae_linear": VaeLinear,
    "model/vae_gumbel": VaeGumbel,
    "model/vae_vmf": VaeVmf,
}


def check(cfg: Any) -> None:
    """Rules across fields; raises ConfigError naming the key."""
    task, model = cfg.task, cfg.model
    _one_of("task.objective", task.objective, OBJECTIVES)
    _one_of("task.kl", task.kl, KL_FORMS)
    _one_of("task.pixels", task.pixels, PIXELS)
    _one_of("task.engine", task.engine, ENGINES)
    if "likelihood" in model:
        _one_of("model.likelihood", model.likelihood, LIKELIHOODS)
    if "sigma" in model:
        _one_of("model.sigma", model.sigma, SIGMAS[:3] if model.name == "vae_linear" else SIGMAS)
    if "activation" in model:
        _one_of("model.activation", model.activation, ACTIVATIONS)
    check_ranges(cfg, RANGES)
    check_list_ranges(cfg, LIST_RANGES)
    if "filters" in model and len(model.filters) == 0:
        raise ConfigError("model.filters", "must be one number or more, found none")
    _check_study(cfg)
    _check_model(cfg)


def _check_study(cfg: Any) -> None:
    task = cfg.task
    for name in task.study_objectives:
        _one_of("task.study_objectives", name, STUDY_OBJECTIVES)
    if task.study is None:
        return
    _one_of("task.study", task.study, STUDIES)
    if task.study in BETA_STUDIES:
        check_list_ranges(cfg, [("task.study_values", 0, FINITE)])
        return
    check_list_ranges(cfg, [("task.study_values", 1, MOST_DRAWS)])
    for value in task.study_values:
        if value != int(value):
            raise ConfigError(
                "task.study_values", f"must be whole numbers of draws, found {value:g}"
            )


def _check_model(cfg: Any) -> None:
    task, model = cfg.task, cfg.model
    check_objectives(cfg)
    if task.kl == "stl" and model.name == "vae_gumbel":
        raise ConfigError(
            "task.kl", "stl needs latents that are differentiable draws, not one-hots"
        )
    if model.name == "vae_vmf":
        check_ranges(cfg, [("model.latent", 3, FINITE)])
    if is_labelled(model) and cfg.data.name == "mnist_static":
        raise ConfigError(
            "data", "mnist_static has no labels; use data=mnist task.pixels=fixed with cvae"
        )
    if cfg.data.name == "mnist_static" and task.pixels not in ("auto",):
        raise ConfigError(
            "task.pixels", "mnist_static is binarised already; leave task.pixels=auto"
        )


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(key, f"expected one of {', '.join(allowed)}; found {value!r}")
