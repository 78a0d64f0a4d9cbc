"""Options of task em; defaults live here, conf/ holds differences. Nothing here imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig

from kexue_cli.config import ModelConfig, TaskConfig
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.em.config_data import DATA_SCHEMAS, check_data

TAKES = ("images",)
STARTS = ("k-means++", "k-means", "random", "points", "given")
ALGORITHMS = ("em", "hard", "stochastic")
STOPS = ("change", "aitken")
CRITERIA = ("bic", "aic", "icl")
COVARIANCES = (
    *("full", "tied", "diag", "spherical", "all"),
    *("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE"),
    *("VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV", "E", "V"),
)


@dataclass
class EmTask(TaskConfig):
    """Task em."""

    name: str = "em"
    _target_: str = "kexue_cli.tasks.em.task.EmTask"
    n_samples: int = 1000  # of mode=generate
    plots: bool = True
    max_predictions: int = 1_000_000  # rows above which predictions.csv is not written


@dataclass
class Mixture(ModelConfig):
    """What all mixtures share."""

    task: str = "em"
    n_components: Any = 3  # 3, a range 1..9, or a list [2,4,8]: the criterion chooses
    n_init: int = 10  # restarts, computed as one batch
    start: str = "k-means++"  # k-means++ | k-means | random | points | given
    start_means: str | None = None  # of start=given: .csv or .npy, one row per component
    max_iter: int = 2000
    tol: float = 1e-6  # nats of the total log-likelihood
    stop: str = "change"  # change | aitken: distance to the extrapolated limit
    algorithm: str = "em"  # em | hard (classification EM) | stochastic
    annealing: int = 0  # iterations at rising inverse temperature before plain EM
    # drop the worst restarts after 10, 20, 40 ... iterations; null: from 10,000 rows on, or from
    # 150,000 rows x columns x components
    race: bool | None = None
    batch_rows: int | None = None  # incremental EM: an M-step after every so many rows
    known_labels: float = 0.0  # share of the labelled rows whose label is given to the fit
    criterion: str = "bic"  # bic | aic | icl, among several n_components or covariances
    bootstrap: int = 0  # resamples of the likelihood-ratio test of K against K + 1
    dtype: str = "float64"  # of the arithmetic; sums are always float64


@dataclass
class Gmm(Mixture):
    """Gaussian mixture with fourteen covariance models."""

    name: str = "gmm"
    _target_: str = "kexue_cli.tasks.em.models.Gmm"
    covariance: Any = "full"  # full | tied | diag | spherical | EII ... VVV | all | a list
    regularisation: float = 1e-6  # pseudo-rows of the columns' variance per component
    reg_covar: float = 0.0  # added to variances, squared units of the data, as in scikit-learn


@dataclass
class BernoulliMixture(Mixture):
    """Mixture of independent bits."""

    name: str = "bernoulli_mixture"
    _target_: str = "kexue_cli.tasks.em.models.Bernoulli"
    n_components: Any = 10
    n_init: int = 1
    start: str = "points"
    ones: float = 0.05  # pseudo-count of ones and zeros per component and bit
    zeros: float = 0.2
    threshold: float | None = 0.5  # values above are 1; null: values in [0, 1] count as they are
    tol: float = 1e-3


@dataclass
class MultinomialMixture(Mixture):
    """Mixture of word distributions: one topic per document."""

    name: str = "multinomial_mixture"
    _target_: str = "kexue_cli.tasks.em.models.Multinomial"
    n_components: Any = 10
    n_init: int = 1
    start: str = "random"
    pseudo_count: float = 0.01  # of every word in every component
    tol: float = 1e-3


@dataclass
class Coins(Mixture):
    """Two coins of Do and Batzoglou (2008): which coin gave each set of tosses is hidden."""

    name: str = "coins"
    _target_: str = "kexue_cli.tasks.em.models.Coins"
    n_components: Any = 2
    n_init: int = 1
    start: str = "given"
    biases: list[float] = field(default_factory=lambda: [0.6, 0.5])  # p(head) of each coin at first
    tol: float = 1e-12


@dataclass
class Kmeans(ModelConfig):
    """K-Means."""

    name: str = "kmeans"
    task: str = "em"
    _target_: str = "kexue_cli.tasks.em.kmeans_model.Kmeans"
    n_components: Any = 3
    n_init: int = 10
    start: str = "k-means++"
    start_means: str | None = None
    max_iter: int = 300
    tol: float = 0.0  # largest movement of a centre in standard deviations; 0: no row moves
    method: str = "lloyd"  # lloyd | annealed: EM with one variance that goes to 0
    rate: float = 0.9  # of method=annealed: factor of the variance
    final_variance: float = 1e-5  # of method=annealed: last over first


@dataclass
class Plsa(ModelConfig):
    """Probabilistic latent semantic analysis."""

    name: str = "plsa"
    task: str = "em"
    _target_: str = "kexue_cli.tasks.em.plsa_model.PlsaModel"
    n_components: Any = 10
    n_init: int = 1
    max_iter: int = 300
    tol: float = 1e-3  # nats of the total log-likelihood
    top_words: int = 10  # shown per topic


SCHEMAS: dict[str, type] = {
    "task/em": EmTask,
    "model/gmm": Gmm,
    "model/kmeans": Kmeans,
    "model/bernoulli_mixture": BernoulliMixture,
    "model/multinomial_mixture": MultinomialMixture,
    "model/plsa": Plsa,
    "model/coins": Coins,
    **DATA_SCHEMAS,
}


def component_numbers(value: Any) -> list[int]:
    """`3`, `"1..9"`, `"1,2,4"` or `[1, 2, 4]` as a list of whole numbers above 0.

    Raises:
        ConfigError: anything else.
    """
    advice = f"expected a whole number above 0, a range like 1..9, or a list, found {value!r}"
    if isinstance(value, list | tuple | ListConfig):
        return sorted({number for item in value for number in component_numbers(item)})
    text = str(value).strip()
    spans = re.fullmatch(r"(\d+)\s*(?:\.\.|-)\s*(\d+)", text)
    if spans:
        low, high = int(spans[1]), int(spans[2])
        if not 1 <= low <= high:
            raise ConfigError("model.n_components", advice)
        return list(range(low, high + 1))
    if "," in text:
        return component_numbers(text.split(","))
    if isinstance(value, bool) or not text.isdigit() or int(text) < 1:
        raise ConfigError("model.n_components", advice)
    return [int(text)]


def covariance_names(value: Any) -> list[str]:
    """`full`, `all`, `"VEV,EEE"` or a list, as names of COVARIANCES without `all`."""
    items = value if isinstance(value, list | tuple | ListConfig) else str(value).split(",")
    names: list[str] = []
    for item in items:
        name = str(item).strip()
        if name not in COVARIANCES:
            raise ConfigError(
                "model.covariance", f"expected one of {', '.join(COVARIANCES)}, found {name!r}"
            )
        names.extend(COVARIANCES[5:19] if name == "all" else [name])
    return list(dict.fromkeys(names))


def check(cfg: DictConfig) -> None:
    """Rules across the fields of the model and its data.

    Raises:
        ConfigError: naming the key.
    """
    model = cfg.model
    numbers = component_numbers(model.n_components)
    for key in ("n_init", "max_iter"):
        if model[key] < 1:
            raise ConfigError(f"model.{key}", f"must be 1 or more, found {model[key]}")
    if model.tol < 0:
        raise ConfigError("model.tol", f"must not be negative, found {model.tol}")
    if model.name == "gmm":
        _check_covariances(model)
        _not_negative(model, ("regularisation", "reg_covar"))
    if model.name == "bernoulli_mixture":
        _not_negative(model, ("ones", "zeros"))
    if model.name == "multinomial_mixture":
        _not_negative(model, ("pseudo_count",))
    if model.name in ("kmeans", "plsa", "coins") and len(numbers) > 1:
        raise ConfigError(
            "model.n_components", f"model={model.name} takes one number, found {numbers}"
        )
    _check_choices(model)
    check_data(model.name, cfg.data.name)


def _check_covariances(model: DictConfig) -> None:
    names = covariance_names(model.covariance)
    if model.bootstrap and len(names) > 1:
        raise ConfigError(
            "model.bootstrap",
            f"tests one model.covariance at a time, found {', '.join(names)}: choose one",
        )


def _not_negative(model: DictConfig, keys: tuple[str, ...]) -> None:
    for key in keys:
        if model[key] < 0:
            raise ConfigError(f"model.{key}", f"must not be negative, found {model[key]}")


def _check_choices(model: DictConfig) -> None:
    choices: dict[str, tuple[str, ...]] = {
        "start": STARTS,
        "algorithm": ALGORITHMS,
        "stop": STOPS,
        "criterion": CRITERIA,
        "dtype": ("float64", "float32"),
        "method": ("lloyd", "annealed"),
    }
    for key, allowed in choices.items():
        if key in model and model[key] not in allowed:
            raise ConfigError(
                f"model.{key}", f"expected one of {', '.join(allowed)}, found {model[key]!r}"
            )
    if model.get("batch_rows") is not None and model.batch_rows < 1:
        raise ConfigError("model.batch_rows", f"must be 1 or more, found {model.batch_rows}")
    if not 0 <= model.get("known_labels", 0.0) <= 1:
        raise ConfigError("model.known_labels", f"expected 0 to 1, found {model.known_labels}")
    if model.get("batch_rows") is not None and model.algorithm != "em":
        raise ConfigError("model.batch_rows", "incremental EM needs model.algorithm=em")
