"""One form for each character, position by position: a span of one form is a span of the other.

Width, case and compatibility forms are levelled as far as that keeps the length, so answers can be
cut out of the text as it was written. The post (kexue.fm 5409) turns full width to half width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kexue_cli.extras import require


class LengthKeepingTable(dict[int, int]):
    """A table for `str.translate` that fills itself as characters are met."""

    def __init__(self, steps: Sequence[Callable[[str], str]]) -> None:
        super().__init__()
        self.steps = steps

    def __missing__(self, code: int) -> int:
        character = chr(code)
        for step in self.steps:
            character = one_character(step(character), character)
        self[code] = ord(character)
        return self[code]


def compatible(character: str) -> str:
    """NFKC; a blank for any white space."""
    return " " if character.isspace() else unicodedata.normalize("NFKC", character)


def simplifier() -> Callable[[str], str]:
    """From traditional to simplified, of a character by itself."""
    convert: Callable[[str], str] = require("opencc", extra="dgcnn").OpenCC("t2s").convert
    return lambda character: character if unpaired(character) else convert(character)


def unpaired(character: str) -> bool:
    """Whether it is a surrogate, which UTF-8 cannot hold."""
    return "\ud800" <= character <= "\udfff"


def one_character(text: str, otherwise: str) -> str:
    """`text` if it is one character long."""
    return text if len(text) == 1 else otherwise


@dataclass(frozen=True)
class Normaliser:
    """How text is levelled before it is compared or encoded.

    Attributes:
        unicode: NFKC of each character where that is one character (Ａ → A, ， → ,, ㎏ stays);
            every kind of white space becomes a blank.
        lower: lower case.
        simplified: simplified characters for traditional ones, by OpenCC.
    """

    unicode: bool = True
    lower: bool = True
    simplified: bool = False
    _table: LengthKeepingTable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps: list[Callable[[str], str]] = []
        if self.unicode:
            steps.append(compatible)
        if self.lower:
            steps.append(str.lower)
        if self.simplified:
            steps.append(simplifier())
        object.__setattr__(self, "_table", LengthKeepingTable(steps))

    def __call__(self, text: str) -> str:
        """The levelled text, of the same length."""
        return text.translate(self._table)


LEVELLED = Normaliser()  # text with width and case apart


def occurrences(text: str, answer: str) -> list[int]:
    """Start offsets of all occurrences of `answer`, also overlapping ones."""
    starts: list[int] = []
    found = text.find(answer) if answer else -1
    while found >= 0:
        starts.append(found)
        found = text.find(answer, found + 1)
    return starts
