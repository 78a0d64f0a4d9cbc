"""Configuration of the task minent: corpora, methods, outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kexue_cli.config import FINITE, DataConfig, Mode, ModelConfig, Range, TaskConfig, check_ranges
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent.config_counts import (
    COUNT_RANGES,
    COUNT_SCHEMAS,
    check_counting,
    check_scratch,
)

ALPHABETS = ("auto", "han", "letters", "any")
SPACES = ("cut", "strip", "gold")
NUMBERS = (None, "digits", "whole", "join")
DEPENDENCES = ("auto", "bigram", "none", "both")
RANGES: tuple[Range, ...] = (
    ("task.max_table_characters", 0, FINITE),
    ("model.exponent", 0.0, 10.0),
    ("model.iterations", 1, 10_000),
    ("model.max_length", 1, 255),
    ("model.max_characters", 1, 10**12),
    ("model.members", 1, 9),
    ("model.sweeps", 1, 10**6),
    ("model.average", 1, 10**6),
    ("model.penalty", 0.0, 100.0),
    ("model.independent_penalty", 0.0, 100.0),
    ("model.tagger", 0.0, 100.0),
    ("model.discount", 0.0, 0.999),
    ("model.word_discount", 0.0, 0.999),
    ("model.strength", 1e-6, 1e6),
    ("model.word_strength", 1e-6, 1e6),
    *COUNT_RANGES,
)


@dataclass
class MinentTask(TaskConfig):
    """What is computed and written besides the segmentation itself."""

    name: str = "minent"
    _target_: str = "kexue_cli.tasks.minent.task.MinentTask"
    max_table_characters: int = 20_000_000
    """Above so many characters the segmented text is in segmented.txt alone, in no table."""
    exclude: str | None = None
    """Known words to leave out of new_words.csv: a file with one word a line, or `jieba`."""


@dataclass
class TextData(DataConfig):
    """Text whose words are wanted; whitespace ends words."""

    name: str = "text"
    task: str = "minent"
    path: Any = None
    """A file, a folder, a glob, or a list of such; .gz, .bz2, .xz and .zst are unpacked."""
    encoding: str = "utf-8"
    alphabet: str = "auto"
    """`han`, `letters`, `any`, or `auto` by the share of Han characters."""
    keep_latin: bool | None = None
    keep_digits: bool | None = None
    """Runs of Latin letters / digits are one token; null: as the alphabet says."""
    numbers: str | None = None
    """`digits`: their runs are tokens or not by keep_digits; `whole`: a number (2008, 3.5%, 10:30)
    is one token, and none of two or more Han numerals (二十三) is cut; `join`: besides, the former
    is one letter, 0, which may be part of a word, as in 0年. Null: whole for model=best in Han
    text where keep_digits is null, too; else digits."""
    spaces: str = "cut"
    """`cut`: white space ends words; `strip`: it is deleted; `gold`: deleted, then the gold."""
    sentence_ends: bool = True
    """A line end is a known word end."""
    separators: str = ""
    """Further characters that count as spaces."""
    gold: str | None = None
    """A segmented version of the same text, used for scoring only."""


@dataclass
class SpacedData(TextData):
    """Text with spaces: they are deleted before the task and used as gold."""

    name: str = "spaced"
    spaces: str = "gold"


@dataclass
class LinesData(SpacedData):
    """Gold-standard lines, words separated by spaces or `separators`."""

    name: str = "lines"


@dataclass
class PydocData(SpacedData):
    """English prose that comes with Python, spaces deleted; needs no file."""

    name: str = "pydoc"


@dataclass
class UnigramMdlModel(ModelConfig):
    """Penalised unigram EM."""

    name: str = "unigram_mdl"
    task: str = "minent"
    _target_: str = "kexue_cli.tasks.minent.unigram_mdl.UnigramMdl"
    exponent: float | None = None
    """Of the length penalty exp(-len^exponent); null: by two-part description length."""
    iterations: int = 10
    max_length: int | None = None
    """Longest word in characters; null: 8 for Han text, 14 for others."""
    max_characters: int | None = 20_000_000
    """Learn from about so many characters at the start of the text; null: from all."""


@dataclass
class BestModel(UnigramMdlModel):
    """Penalised unigram EM, then a Bayesian word model by blocked Gibbs sampling."""

    name: str = "best"
    _target_: str = "kexue_cli.tasks.minent.best.Best"
    max_characters: int | None = 10_000_000
    """Learn from about so many characters at the start of the text; null: from all."""
    members: int | None = None
    """Samplers that vote together; null: 3 with a bigram, 5 of both kinds."""
    dependence: str = "auto"
    """Of a word on the one before: `bigram`, `none`, `both` (some of the members have it), or
    `auto`: bigram or both, by description length."""
    sweeps: int | None = None
    """Null: 60 up to a million characters, fewer for more, 15 from four million on."""
    average: int | None = None
    """The cuts that most of so many last sweeps have are the result; null: two thirds of them."""
    penalty: float = 0.3
    """Share of the length penalty that stays in the Bayesian model with a bigram."""
    independent_penalty: float = 1.0
    """The same where words are independent."""
    tagger: float = 0.5
    """Weight of the log-odds of a tagger that has learned from the committee's cuts elsewhere in
    the text, beside those of the committee's vote; 0: the vote alone."""
    discount: float = 0.9
    strength: float = 30.0
    word_discount: float = 0.5
    word_strength: float = 1.0


@dataclass
class LexiconModel(ModelConfig):
    """A given lexicon; nothing is learned."""

    needs_training: ClassVar[bool] = False
    name: str = "lexicon"
    task: str = "minent"
    _target_: str = "kexue_cli.tasks.minent.lexicon_file.LexiconFile"
    path: str | None = None
    """Lines of `word count`, as lexicon.txt of a run or jieba's dictionary."""


SCHEMAS: dict[str, type] = {
    "task/minent": MinentTask,
    "data/text": TextData,
    "data/spaced": SpacedData,
    "data/lines": LinesData,
    "data/pydoc": PydocData,
    "model/unigram_mdl": UnigramMdlModel,
    "model/best": BestModel,
    "model/lexicon": LexiconModel,
    **COUNT_SCHEMAS,
}


def check(cfg: Any) -> None:
    """Rules that the types cannot say; raises ConfigError."""
    data, model = cfg.data, cfg.model
    for key, known in (("alphabet", ALPHABETS), ("spaces", SPACES), ("numbers", NUMBERS)):
        if data[key] not in known:
            names = ", ".join("null" if name is None else name for name in known)
            raise ConfigError(f"data.{key}", f"expected one of {names}, found {data[key]!r}")
    if data.numbers in ("whole", "join") and data.keep_digits is not None:
        raise ConfigError(
            "data.keep_digits", f"has no effect with data.numbers={data.numbers}; leave one out"
        )
    if data.gold is not None and data.spaces == "gold":
        raise ConfigError("data.gold", "the spaces are the gold already; use data=text")
    if data.name != "pydoc" and not data.path:
        raise ConfigError(
            "data.path", "expected a file, a folder, a glob or a list; data=pydoc needs none"
        )
    check_ranges(cfg, RANGES)
    check_counting(model)
    if model.get("dependence", "auto") not in DEPENDENCES:
        raise ConfigError(
            "model.dependence",
            f"expected one of {', '.join(DEPENDENCES)}, found {model.dependence!r}",
        )
    sweeps, average = model.get("sweeps"), model.get("average")
    if sweeps is not None and average is not None and average > sweeps:
        raise ConfigError("model.average", f"expected at most model.sweeps = {model.sweeps}")
    if model.name == "lexicon" and model.path is None:
        raise ConfigError("model.path", "expected a file of `word count` lines")
    _check_places(cfg)


def _check_places(cfg: Any) -> None:
    """Raise ConfigError for files and folders that will be needed and are not there."""
    # not for every start of the program
    from kexue_cli.tasks.minent.reading import check_place, places

    data, model = cfg.data, cfg.model
    if data.name != "pydoc":
        for place in places(data.path):
            check_place(place)
    if data.gold is not None:
        check_place(data.gold, "data.gold")
    if cfg.mode == Mode.train:
        check_scratch(model.get("scratch"))
    if model.name == "lexicon" and cfg.checkpoint is None and not Path(model.path).exists():
        raise ConfigError(
            "model.path", f"no file at {model.path!r}; expected one of `word count` lines"
        )
