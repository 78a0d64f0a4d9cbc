"""Data sets of task em; defaults live here, conf/ holds differences. Nothing here imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from omegaconf import MISSING, DictConfig

from kexue_cli.config import DataConfig
from kexue_cli.errors import ConfigError

SEPARATORS = {"semicolon": ";", "tab": "\t", "bar": "|", "comma": ",", "space": " "}  # by word
GREY_IMAGES = ("digits", "mnist", "fashion_mnist", "images")
IMAGE_SETS = (*GREY_IMAGES, "mnist_static")


@dataclass
class Iris(DataConfig):
    """Fisher's iris, 150 flowers, from scikit-learn's package."""

    name: str = "iris"
    task: str = "em"


@dataclass
class TableData(DataConfig):
    """A table of the user's: .csv, .csv.gz, .parquet, .npz, or .npy (memory-mapped)."""

    name: str = "table"
    task: str = "em"
    path: str = MISSING
    columns: list[str] | None = None  # names or numbers from 0; null: all but the ones below
    weight: str | None = None  # column of row weights
    label: str | None = None  # column of known classes, for scores and model.known_labels
    id: str | None = None  # column of ids; null: row numbers from 0
    separator: str | None = None  # semicolon, tab, bar, comma, space; null: comma, of .tsv tab
    decimal: str = "."  # of .csv and .tsv; comma for 1,5
    divide_by: float = 1.0
    corrections: dict[str, float] = field(default_factory=dict)  # "column@row": value, row from 1
    test_path: str | None = None  # a second table, scored only


@dataclass
class WordCounts(DataConfig):
    """Documents as word counts: LDA-C (.dat, .ldac), scipy .npz, or Matrix Market .mtx."""

    name: str = "word_counts"
    task: str = "em"
    path: str = MISSING
    vocabulary: str | None = None  # one word a line
    test_path: str | None = None


@dataclass
class CoinTosses(DataConfig):
    """Sets of tosses by number of heads; by default the five of Do and Batzoglou (2008)."""

    name: str = "coin_tosses"
    task: str = "em"
    heads: list[int] = field(default_factory=lambda: [5, 9, 8, 4, 7])
    tosses: int = 10


DATA_SCHEMAS: dict[str, type] = {
    "data/iris": Iris,
    "data/table": TableData,
    "data/word_counts": WordCounts,
    "data/coin_tosses": CoinTosses,
}


def check_data(model: str, data: str) -> None:
    """Whether `model` can be fitted to `data`, both by name.

    Raises:
        ConfigError: it takes other data.
    """
    counts = data in ("word_counts", "ap", "coin_tosses")
    if model == "coins" and data != "coin_tosses":
        raise ConfigError("data", f"model=coins needs data=coin_tosses, found data={data}")
    if model in ("gmm", "kmeans", "bernoulli_mixture") and counts:
        raise ConfigError(
            "data", f"{data} holds word counts; use model=plsa or model=multinomial_mixture"
        )
    if model in ("plsa", "multinomial_mixture") and data in ("iris", *GREY_IMAGES):
        raise ConfigError(
            "data", f"model={model} needs counts; use data=ap, data=word_counts or data=table"
        )
    if model == "bernoulli_mixture" and data == "iris":
        raise ConfigError(
            "data", f"model={model} needs bits; use data=digits, data=mnist_static or data=table"
        )


def check_options(data: DictConfig) -> None:
    """Values of one data set by themselves.

    Raises:
        ConfigError: naming the key.
    """
    divide_by = data.get("divide_by", 1.0)
    if divide_by == 0 or not math.isfinite(divide_by):
        raise ConfigError("data.divide_by", f"must be finite and not 0, found {divide_by}")
    for key in ("separator", "decimal"):
        given = data.get(key)
        if given is not None and given not in SEPARATORS and len(given) != 1:
            raise ConfigError(
                f"data.{key}",
                f"expected one of {', '.join(SEPARATORS)}, or one character, found {given!r}",
            )
