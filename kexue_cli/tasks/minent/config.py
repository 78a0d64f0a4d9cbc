"""Configuration of the task minent: corpora, methods, outputs."""

from __future__ import annotations

from dataclasses import dataclass

from kexue_cli.config import DataConfig, ModelConfig, TaskConfig
from kexue_cli.errors import ConfigError

ALPHABETS = ("auto", "han", "letters", "any")
SPACES = ("cut", "strip", "gold")


@dataclass
class MinentTask(TaskConfig):
    """What is computed and written besides the segmentation itself."""

    name: str = "minent"
    _target_: str = "kexue_cli.tasks.minent.task.MinentTask"
    max_train_characters: int | None = 20_000_000
    """The lexicon is learned on about so many characters from the start; null: on all."""
    exclude: str | None = None
    """Known words to leave out of new_words.csv: a file with one word a line, or `jieba`."""


@dataclass
class TextData(DataConfig):
    """Text whose words are wanted; whitespace ends words."""

    name: str = "text"
    task: str = "minent"
    path: str | None = None
    """A file, a folder or a glob; .gz, .xz and .zst are unpacked."""
    encoding: str = "utf-8"
    alphabet: str = "auto"
    """`han`, `letters`, `any`, or `auto` by the share of Han characters."""
    keep_latin: bool | None = None
    keep_digits: bool | None = None
    """Runs of Latin letters / digits are one token; null: as the alphabet says."""
    spaces: str = "cut"
    """`cut`: whitespace ends words; `strip`: it is deleted; `gold`: deleted, and used for scoring."""
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


SCHEMAS = {
    "task/minent": MinentTask,
    "data/text": TextData,
    "data/spaced": SpacedData,
    "data/lines": LinesData,
    "data/pydoc": PydocData,
}
