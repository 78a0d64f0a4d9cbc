"""A given lexicon as a method: nothing is learned, the text is cut with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.lexicon import read_lexicon
from kexue_cli.tasks.minent.lexicon_method import LexiconCutter

if TYPE_CHECKING:
    from kexue_cli.run.context import Context


class LexiconFile(LexiconCutter):
    """model=lexicon: the words of `path` (`word count` lines), most probable segmentation."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        if path is None:
            raise ConfigError("model.path", "expected a file of `word count` lines")
        self.path = path

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Read the file."""
        self.take(read_lexicon(self.path))
        ctx.console.say(f"{self.path}: {len(self.lexicon()):,} words")
