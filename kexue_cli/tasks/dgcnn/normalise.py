"""One form for each character, position by position: a span of one form is a span of the other.

Width, case and compatibility forms are levelled as far as that keeps the length, so answers can be
cut out of the text as it was written. The post (kexue.fm 5409) turns full width to half width.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field


class LengthKeepingTable(dict[int, int]):
    """A table for `str.translate` that fills itself as characters are met."""

    def __init__(self, lower: bool) -> None:
        super().__init__()
        self.lower = lower

    def __missing__(self, code: int) -> int:
        character = chr(code)
        if character.isspace():
            levelled = " "
        else:
            levelled = one_character(unicodedata.normalize("NFKC", character), character)
        if self.lower:
            levelled = one_character(levelled.lower(), levelled)
        self[code] = ord(levelled)
        return self[code]


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
    """

    unicode: bool = True
    lower: bool = True
    _table: LengthKeepingTable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", LengthKeepingTable(self.lower))

    def __call__(self, text: str) -> str:
        """The levelled text, of the same length."""
        if not self.unicode:
            return lower_keeping_length(text) if self.lower else text
        return text.translate(self._table)


def lower_keeping_length(text: str) -> str:
    """Lower case, but for the few characters whose lower case is longer (İ)."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(one_character(character.lower(), character) for character in text)


def occurrences(text: str, answer: str) -> list[int]:
    """Start offsets of all occurrences of `answer`, also overlapping ones."""
    starts: list[int] = []
    found = text.find(answer) if answer else -1
    while found >= 0:
        starts.append(found)
        found = text.find(answer, found + 1)
    return starts
