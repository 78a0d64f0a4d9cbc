"""Options of the questions a run learns from. Nothing here imports numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from kexue_cli.config import DataConfig
from kexue_cli.errors import ConfigError

DATA_ROOT = "${oc.env:KEXUE_DATA_DIR,data}"


class SplitBy(Enum):
    """How validation questions are split off `path`, after a shuffle with `split_seed`."""

    every_third = "every_third"  # index % 3 == 0, as in kexue.fm 6906
    fraction = "fraction"  # valid_fraction
    fold = "fold"  # fold number `fold` of `n_folds`


class Missing(Enum):
    """What is done about an answer that does not occur in its passage."""

    keep = "keep"  # the passage stays, without labels
    drop = "drop"  # the passage goes
    stop = "stop"


class Empty(Enum):
    """What is done about empty passages and questions."""

    drop = "drop"  # counted and left out
    stop = "stop"


class Repeated(Enum):
    """What is done about questions to learn from that are asked again where nothing is learned."""

    drop = "drop"  # counted and left out
    keep = "keep"


class Segmenter(Enum):
    """What cuts words."""

    auto = "auto"  # rjieba if installed, else jieba
    rjieba = "rjieba"
    jieba = "jieba"
    none = "none"  # every character is a word


@dataclass
class Source:
    """A further file to learn from, of any form."""

    path: str = MISSING
    weight: float = 1.0  # how often its questions are drawn, in relation to the others'
    fill_to: int | None = None  # as data.fill_to, for this file; null: that one


@dataclass
class QuestionData(DataConfig):
    """Files of questions with passages; their form is recognised by content."""

    task: str = "dgcnn"
    path: str | None = None  # learned from
    weight: float = 1.0
    more: list[Source] = field(default_factory=list)
    valid_path: str | None = None  # null: split off path
    test_path: str | None = None  # with or without answers
    accepted: str | None = None  # lines id<TAB>standard answer<TAB>accepted|accepted
    split_by: SplitBy = SplitBy.fraction
    valid_fraction: float = 0.1
    n_folds: int = 5
    fold: int = 0
    split_seed: int = 2019
    n_held_out: int = 0  # questions of path set apart as the test set before anything else
    fill_to: int = 0  # passages per question learned from: the missing ones are retrieved (BM25)
    pool: list[str] = field(default_factory=list)  # files with further passages to retrieve
    pool_length: int = 200  # characters of the pieces in which they are
    exclude: list[str] = field(default_factory=list)  # files whose questions are not learned from
    repeated: Repeated = Repeated.drop  # questions asked in validation, test or exclude, too
    repeated_overlap: float = 1.0  # common bigrams from which on questions are the same; 1: equal
    missing_answer: Missing = Missing.keep
    empty: Empty = Empty.drop
    segmenter: Segmenter = Segmenter.auto
    split_latin: bool = True  # each letter and digit a word, as in kexue.fm 5409
    unicode: bool = True  # full width to half width and the like, where the length stays
    lower: bool = True
    simplified: bool = False  # traditional characters read as simplified ones
    min_count: int = 2  # of a character, to have an id
    min_word_count: int = 5  # of a word, where there are no word vectors


@dataclass
class Elements(QuestionData):
    """Questions on the chemical elements, made from templates: nothing to download."""

    name: str = "elements"
    n_questions: int = 3000  # to learn from
    n_valid: int = 600  # about other elements: those of number `fold` out of `n_folds`
    n_passages: int = 5  # of each question
    answered: float = 0.4  # share of passages that hold the answer; at least one does
    data_seed: int = 1869


DATA_SCHEMAS: dict[str, type] = {
    "data/elements": Elements,
    "data/sogouqa": QuestionData,
    "data/webqa": QuestionData,
    "data/squad": QuestionData,
    "data/questions": QuestionData,
}


def check_data(data: Any, trains: bool = True) -> None:
    """Rules across the fields of `cfg.data`; a run that only tests needs fewer.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    check_numbers(data)
    for i, weight in enumerate([data.weight, *(source.weight for source in data.more)]):
        if not 0 < weight < float("inf"):
            key = f"more[{i - 1}].weight" if i else "weight"
            raise ConfigError(f"data.{key}", f"above 0, found {weight}")
    for i, source in enumerate(data.more):
        if (source.get("fill_to") or 0) < 0:
            raise ConfigError(f"data.more[{i}].fill_to", f"0 or above, found {source.fill_to}")
    if data.name != "elements" and not data.path and (trains or not data.test_path):
        raise ConfigError("data.path", "name a file of questions with passages")
    if data.name == "elements" and data.n_folds > N_ELEMENTS:
        raise ConfigError("data.n_folds", f"at most {N_ELEMENTS} elements, found {data.n_folds}")
    if trains and data.n_held_out and data.test_path:
        raise ConfigError("data.n_held_out", "data.test_path already is the test set: use 0")
    if data.exclude and getattr(data.repeated, "name", data.repeated) == "keep":
        raise ConfigError("data.exclude", "is heeded with data.repeated=drop only")
    if data.pool and not data.fill_to:
        raise ConfigError("data.pool", "needs data.fill_to, the number of passages per question")


N_ELEMENTS = 118
LEAST = {
    "n_held_out": 0,
    "fill_to": 0,
    "min_count": 1,
    "min_word_count": 1,
    "pool_length": 1,
    "n_questions": 1,
    "n_valid": 1,
    "n_passages": 1,
}


def check_numbers(data: Any) -> None:
    """Each number within its range."""
    for key, least in LEAST.items():
        if key in data and data[key] < least:
            raise ConfigError(f"data.{key}", f"{least} or above, found {data[key]}")
    if not 0 < data.valid_fraction < 1:
        raise ConfigError("data.valid_fraction", f"between 0 and 1, found {data.valid_fraction}")
    if not 0 <= data.get("answered", 0) <= 1:
        raise ConfigError("data.answered", f"from 0 to 1, found {data.answered}")
    if not 0 < data.repeated_overlap <= 1:
        raise ConfigError(
            "data.repeated_overlap", f"above 0 and at most 1, found {data.repeated_overlap}"
        )
    if data.n_folds < 2:
        raise ConfigError("data.n_folds", f"2 or more, found {data.n_folds}")
    if not 0 <= data.fold < data.n_folds:
        raise ConfigError("data.fold", f"from 0 to below {data.n_folds}, found {data.fold}")
