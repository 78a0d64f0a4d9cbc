"""The text that a method learns from in memory, read no further than memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.memory import MIB, available_mib
from kexue_cli.tasks.minent.splitting import CHUNK_CHARACTERS, Chunk

MOST_LETTERS = 2**31 - 1  # places in a text are numbers of 32 bits
OTHER_BYTES = 40  # that a character takes in which no word is searched
KEY = "model.max_characters"


@dataclass(frozen=True)
class _Bounded(Corpus):
    """A corpus that refuses to be read further than a method can learn from.

    letter_bytes  that the method takes for each letter of the text
    most_letters  that it can number
    free_mib      memory that it may take; None: unknown
    advice        what else than `model.max_characters` lowers the need
    """

    letter_bytes: int = 0
    most_letters: int = MOST_LETTERS
    free_mib: int | None = None
    advice: str = ""

    def chunks(self, chunk_characters: int = CHUNK_CHARACTERS) -> Iterator[Chunk]:
        """As `Corpus.chunks`; raises ConfigError at the first chunk that is too much."""
        letters = others = 0
        for chunk in super().chunks(chunk_characters):
            free = int(np.count_nonzero(chunk.inside()))
            letters += free
            others += len(chunk.code_points) - free
            self._check(letters, others)
            yield chunk

    def _check(self, letters: int, others: int) -> None:
        read = letters + others
        if letters > self.most_letters:
            raise ConfigError(
                KEY,
                f"at most {self.most_letters:,} characters can be learned from, the text has more; "
                f"set {KEY}={self.most_letters * 9 // 10} or lower",
            )
        needed = letters * self.letter_bytes + others * OTHER_BYTES
        if self.free_mib is not None and needed > self.free_mib * MIB:
            enough = max(1, read * self.free_mib * MIB * 9 // (needed * 10))
            raise ConfigError(
                KEY,
                f"learning from the first {read:,} characters needs about {needed // MIB:,} MiB "
                f"already, {self.free_mib:,} are free; set {KEY}={enough} or lower{self.advice}",
            )


def text_to_learn(
    corpus: Corpus,
    max_characters: int | None,
    letter_bytes: int,
    most_letters: int = MOST_LETTERS,
    advice: str = "",
) -> Chunk:
    """About the first `max_characters` of a corpus (None: all of it) as one chunk.

    Raises ConfigError, with no more read than that, where learning at `letter_bytes` a letter does
    not fit into the memory that is free, or the letters are more than `most_letters`.
    """
    bounded = _Bounded(
        corpus.source, corpus.splitting, corpus.max_lines,
        letter_bytes, most_letters, available_mib(), advice,
    )  # fmt: skip
    return bounded.read(max_characters)
