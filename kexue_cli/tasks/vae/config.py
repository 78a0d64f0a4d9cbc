"""Options of task=vae. Defaults live here; conf/ holds differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kexue_cli.config import ModelConfig, TaskConfig
from kexue_cli.errors import ConfigError

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
    sigma: str = "fixed"  # fixed | learned | optimal
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
    if task.study is not None:
        _one_of("task.study", task.study, STUDIES)
    _one_of("task.objective", task.objective, OBJECTIVES)
    _one_of("task.kl", task.kl, KL_FORMS)
    _one_of("task.pixels", task.pixels, PIXELS)
    _one_of("task.engine", task.engine, ENGINES)
    if "likelihood" in model:
        _one_of("model.likelihood", model.likelihood, LIKELIHOODS)
    if "sigma" in model:
        _one_of("model.sigma", model.sigma, SIGMAS)
        _above("model.sigma_value", model.sigma_value, 0)
    for key in ("samples", "batch_size", "epochs", "evaluate_every_epochs", "study_seeds"):
        _above(f"task.{key}", task[key], 0)
    for key in ("nll_samples", "kl_warmup_epochs", "free_bits", "beta"):
        _above(f"task.{key}", task[key], -1e-12)
    if task.stages is not None and not 1 <= task.stages <= 8:
        raise ConfigError(
            "task.stages", f"Burda et al.'s schedule has stages 1 to 8, found {task.stages}"
        )
    _check_model(cfg)


def _check_model(cfg: Any) -> None:
    task, model = cfg.task, cfg.model
    if model.name == "iwae_mlp" and model.layers not in (1, 2):
        raise ConfigError("model.layers", f"1 or 2, found {model.layers}")
    deep = model.name == "iwae_mlp" and model.layers == 2
    if task.objective == "dreg" and (deep or model.name in ("vae_gumbel", "vae_vmf")):
        raise ConfigError("task.objective", "dreg is for one layer of normal latents; use iwae")
    if task.objective == "two_penalties" and (deep or model.name in ("vae_gumbel", "vae_vmf")):
        raise ConfigError("task.objective", "two_penalties is for one layer of normal latents")
    if task.kl == "stl" and model.name == "vae_gumbel":
        raise ConfigError(
            "task.kl", "stl needs latents that are differentiable draws, not one-hots"
        )
    if model.name == "vae_vmf" and (model.kappa <= 0 or model.latent < 3):
        raise ConfigError(
            "model.kappa", "vae_vmf needs kappa above 0 and model.latent of 3 at least"
        )
    labelled = getattr(model, "class_mean_prior", False) or getattr(model, "conditional", False)
    if labelled and cfg.data.name == "mnist_static":
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


def _above(key: str, value: float, bound: float) -> None:
    if value <= bound:
        raise ConfigError(key, f"must be above {max(bound, 0):g}, found {value}")
