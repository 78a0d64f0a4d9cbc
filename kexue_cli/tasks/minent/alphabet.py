"""Character classes and the pre-splitting of lines into pieces in which words are searched."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SPACE, OTHER, HAN, LATIN, DIGIT, LETTER = range(6)
ALONE, WHOLE, FREE = range(3)  # groups
NEWLINE = 10
JOINER = 0x200D
POINTS, PERCENTS = (np.array([ord(c) for c in text], np.uint32) for text in (".．·:：∶", "%％‰"))
HAN_NUMERALS = np.array([ord(c) for c in "〇○零一二三四五六七八九十百千万亿"], np.uint32)
UNIFORM_FROM = 0x20000  # from here on there are Han characters and others, by HAN_RANGES alone
HAN_SHARE = 0.3  # from this share of Han characters on, `alphabet=auto` means Chinese text
HAN_RANGES = (
    (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000),
    (0x3005, 0x3006), (0x3007, 0x3008),  # the repetition mark and the zero of Han numerals
)  # fmt: skip


@dataclass(frozen=True)
class Alphabet:
    """Which characters may be glued to words (`free`), and which runs are one token each (`whole`).

    A character in neither set is a token of its own, as punctuation is.
    """

    name: str
    free: frozenset[int]
    whole: frozenset[int]

    @staticmethod
    def named(
        name: str, keep_latin: bool | None = None, keep_digits: bool | None = None
    ) -> Alphabet:
        """`han`, `letters` (any script) or `any` (every character), with two switches.

        `keep_latin` and `keep_digits` say whether runs of Latin letters and digits stay whole:
        by default both for `han`, digits only for `letters`, neither for `any`.
        """
        free, whole = {
            "han": ({HAN}, {LATIN, DIGIT, LETTER}),
            "letters": ({HAN, LATIN, LETTER}, {DIGIT}),
            "any": ({OTHER, HAN, LATIN, DIGIT, LETTER}, set()),
        }[name]
        for kind, keep in ((LATIN, keep_latin), (DIGIT, keep_digits)):
            if keep is not None:
                (whole if keep else free).add(kind)
                (free if keep else whole).discard(kind)
        return Alphabet(name, frozenset(free), frozenset(whole))

    def groups(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """ALONE for each character that is a token, WHOLE for those of whole runs, else FREE."""
        table = np.zeros(6, np.uint8)
        table[list(self.whole)] = WHOLE
        table[list(self.free)] = FREE
        return table[classes]


@cache
def class_table() -> NDArray[np.uint8]:
    """Class of every code point, (0x110000,) uint8."""
    numbers = np.arange(UNIFORM_FROM)
    general, detail = _categories()
    classes = np.full(UNIFORM_FROM, OTHER, np.uint8)
    letters = (general == ord("L")) | (general == ord("M"))
    classes[letters] = LETTER
    classes[letters & ((numbers < 0x250) | ((numbers >= 0xFF21) & (numbers <= 0xFF5A)))] = LATIN
    classes[general == ord("N")] = DIGIT
    for number in numbers[(general == ord("Z")) | (detail == ord("c"))].tolist():
        if chr(number).isspace():  # all of Zs, some of Zl, Zp and Cc
            classes[number] = SPACE
    classes[[ord(c) for c in "\ufeff\u200b"]] = SPACE
    table = np.full(0x110000, OTHER, np.uint8)
    table[:UNIFORM_FROM] = classes
    for first, end in HAN_RANGES:
        table[first:end] = HAN
    return table


@cache
def _categories() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """First and second letter of the general category of the code points below UNIFORM_FROM."""
    both = "".join(map(unicodedata.category, map(chr, range(UNIFORM_FROM))))
    first, second = np.frombuffer(both.encode(), np.uint8).reshape(-1, 2).T
    return first, second


@cache
def attached_table() -> NDArray[np.bool_]:
    """Which code points belong to the character before them, (0x110000,).

    Combining marks, joiners, the soft hyphen, selectors of variants, tones of skin.
    """
    table = np.zeros(0x110000, np.bool_)
    table[:UNIFORM_FROM] = _categories()[0] == ord("M")
    for first, end in ((0x200C, 0x200E), (0xAD, 0xAE), (0x1F3FB, 0x1F400), (0xE0020, 0xE01F0)):
        table[first:end] = True
    return table


def attached(characters: NDArray[np.uint32], apart: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Which characters (characters,) go with the one before; None where none does.

    apart as in `in_numbers`. What follows a joiner goes with it, too, as in 👨‍👩‍👧.
    """
    found = attached_table()[characters]
    if not found.any():
        return None
    found[1:] = (found[1:] | (characters[:-1] == JOINER)) & ~apart
    found[0] = False
    return found


def in_numbers(
    characters: NDArray[np.uint32], classes: NDArray[np.uint8], apart: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which characters (characters,) belong to numbers: digits, points between them, percent signs.

    apart (characters - 1,) is true where nothing goes over from a character to the next.
    """
    number = classes == DIGIT
    touching = np.concatenate(([False], ~apart, [False]))
    after, before = np.append(False, number[:-1]) & touching[:-1], np.append(number[1:], False)
    number |= np.isin(characters, POINTS) & after & before & touching[1:]
    return number | (np.isin(characters, PERCENTS) & after)


def han_number_goes_on(
    characters: NDArray[np.uint32], apart: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """After which characters (characters,) a number of Han numerals, as 二十三, goes on.

    apart as in `in_numbers`.
    """
    numeral = np.isin(characters, HAN_NUMERALS)
    return numeral & np.append(numeral[1:] & ~apart, [False])[: len(numeral)]


def choose(name: str, classes: NDArray[np.uint8], otherwise: str) -> str:
    """Resolve `auto`: `han` where enough of the text is Han, else `otherwise`."""
    if name != "auto":
        return name
    visible = np.count_nonzero(classes != SPACE)
    han = np.count_nonzero(classes == HAN)
    return "han" if visible and han / visible >= HAN_SHARE else otherwise
