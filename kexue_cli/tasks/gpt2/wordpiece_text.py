"""WordPiece tokens joined to readable text, with bert4keras' rules for spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# first and last code points of the CJK ideographs, as BERT's tokenizer counts them
IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
WIDE_PUNCTUATION = (
    (0x00B7, 0x00B7), (0x2013, 0x2014), (0x2018, 0x201F), (0x2026, 0x2027), (0x3000, 0x303F),
    (0xFE4F, 0xFE54), (0xFF01, 0xFF64),
)  # fmt: skip
NO_SPACE_AFTER = "+-/={(<["
CONTRACTION = re.compile("' (re|m|s|t|ve|d|ll) ")
DECIMAL = re.compile(r"(\d\.) (\d)")


def joined(tokens: Sequence[str]) -> str:
    """One text: no special tokens ([…]), pieces (##…) joined, spaces between Latin words only."""
    text = ""
    for token in tokens:
        if token.startswith("[") and token.endswith("]") and len(token) > 1:
            continue
        if token.startswith("##"):
            text += token[2:]
        elif len(token) == 1 and is_ideograph(token):
            text += token
        elif len(token) == 1 and is_punctuation(token):
            text += token + " "
        elif text and is_ideograph(text[-1]):
            text += token
        else:
            text += " " + token
    text = re.sub(" +", " ", text)
    text = CONTRACTION.sub(r"'\1 ", text)
    text = DECIMAL.sub(r"\1\2", _without_spaces_after_wide(text))
    return text.strip()


def is_ideograph(character: str) -> bool:
    """Whether BERT's tokenizer sets this character apart."""
    return any(first <= ord(character) <= last for first, last in IDEOGRAPHS)


def is_punctuation(character: str) -> bool:
    """ASCII symbols and all of Unicode's punctuation."""
    is_ascii_symbol = character.isascii() and character.isprintable() and not character.isalnum()
    is_ascii_symbol = is_ascii_symbol and character != " "
    return is_ascii_symbol or unicodedata.category(character).startswith("P")


def _without_spaces_after_wide(text: str) -> str:
    kept: list[str] = []
    for character in text:
        after_wide = bool(kept) and (kept[-1] in NO_SPACE_AFTER or _is_wide(kept[-1]))
        if not (character == " " and after_wide):
            kept.append(character)
    return "".join(kept)


def _is_wide(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in WIDE_PUNCTUATION)
