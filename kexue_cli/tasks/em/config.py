"""Options of task em; defaults live here, conf/ holds differences. Nothing here imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig

from kexue_cli.config import (
    ABOVE_0,
    FINITE,
    ModelConfig,
    TaskConfig,
    check_list_ranges,
    check_ranges,
)
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.em.config_data import DATA_SCHEMAS, check_data, check_options

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
MOST_COMPONENTS = 10**6
RANGES = (
    ("task.n_samples", 1, FINITE),
    ("task.max_predictions", 0, FINITE),
    ("model.n_init", 1, 10**5),
    ("model.max_iter", 1, FINITE),
    ("model.tol", 0, FINITE),
    ("model.annealing", 0, 10**6),
    ("model.batch_rows", 1, FINITE),
    ("model.known_labels", 0, 1),
    ("model.bootstrap", 0, 10**6),
    ("model.regularisation", 0, FINITE),
    ("model.reg_covar", 0, FINITE),
    ("model.ones", 0, FINITE),
    ("model.zeros", 0, FINITE),
    ("model.threshold", 0, 1),
    ("model.pseudo_count", 0, FINITE),
    ("model.rate", ABOVE_0, 0.9999),
    ("model.final_variance", 1e-100, 1),
    ("model.top_words", 1, FINITE),
    ("data.tosses", 1, FINITE),
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
    advice = (
        f"expected a whole number from 1 to {MOST_COMPONENTS}, a range like 1..9, or a list, "
        f"found {value!r}"
    )
    if isinstance(value, list | tuple | ListConfig):
        if not value:
            raise ConfigError("model.n_components", advice)
        return sorted({number for item in value for number in component_numbers(item)})
    text = str(value).strip()
    spans = re.fullmatch(r"(\d+)\s*(?:\.\.|-)\s*(\d+)", text)
    if spans:
        low, high = int(spans[1]), int(spans[2])
        if not 1 <= low <= high <= MOST_COMPONENTS:
            raise ConfigError("model.n_components", advice)
        return list(range(low, high + 1))
    if "," in text:
        return component_numbers(text.split(","))
    whole = not isinstance(value, bool) and text.isdecimal()
    if not whole or not 1 <= int(text) <= MOST_COMPONENTS:
        raise ConfigError("model.n_components", advice)
    return [int(text)]


def covariance_names(value: Any) -> list[str]:
    """`full`, `all`, `"VEV,EEE"` or a list, as names of COVARIANCES without `all`."""
    items = value if isinstance(value, list | tuple | ListConfig) else str(value).split(",")
    names: list[str] = []
    for name in [str(item).strip() for item in items] or [""]:
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
    check_ranges(cfg, RANGES)
    check_list_ranges(cfg, [("model.biases", 0, 1)])
    if model.name == "gmm":
        _check_covariances(model)
    if model.name in ("kmeans", "plsa", "coins") and len(numbers) > 1:
        raise ConfigError(
            "model.n_components", f"model={model.name} takes one number, found {numbers}"
        )
    if model.name == "coins" and model.start == "given" and numbers != [len(model.biases)]:
        raise ConfigError(
            "model.biases",
            f"expected {numbers[0]} probabilities of head, one for each of model.n_components, "
            f"found {list(model.biases)}",
        )
    _check_choices(model)
    check_data(model.name, cfg.data.name)
    check_options(cfg.data)


def _check_covariances(model: DictConfig) -> None:
    names = covariance_names(model.covariance)
    if model.bootstrap and len(names) > 1:
        raise ConfigError(
            "model.bootstrap",
            f"tests one model.covariance at a time, found {', '.join(names)}: choose one",
        )


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
    if model.get("batch_rows") is not None and model.algorithm != "em":
        raise ConfigError("model.batch_rows", "incremental EM needs model.algorithm=em")
