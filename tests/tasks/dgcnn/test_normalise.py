"""Levelled text has the length of the text, so that spans of one are spans of the other."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_cli.tasks.dgcnn.normalise import Normaliser, occurrences


@given(st.text(st.characters(), max_size=60), st.booleans(), st.booleans())
def test_the_length_stays(text: str, unicode: bool, lower: bool) -> None:
    assert len(Normaliser(unicode, lower)(text)) == len(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ＡＢｃ１２％", "abc12%"),
        ("海拔３８２米，？", "海拔382米,?"),
        ("\u3000\xa0\t", "   "),
        ("İ㎏", "İ㎏"),  # longer in lower case, and in NFKC
        ("ﾊﾟ", "ハ\u309a".replace("\u309a", unicodedata.normalize("NFKC", "ﾟ"))),
    ],
)
def test_width_case_and_blanks_are_levelled(text: str, wanted: str) -> None:
    assert Normaliser()(text) == wanted


def test_each_part_can_be_left_out() -> None:
    assert Normaliser(unicode=False)("Ａa，B") == "ａa，b"
    assert Normaliser(lower=False)("ＡaB") == "AaB"
    assert Normaliser(unicode=False, lower=False)("ＡaB") == "ＡaB"


def test_traditional_characters_are_simplified_if_wished() -> None:
    pytest.importorskip("opencc")
    assert Normaliser(simplified=True)("台灣的發現Ａ\ud800") == "台湾的发现a\ud800"
    assert Normaliser()("台灣") == "台灣"


def test_overlapping_occurrences_are_all_found() -> None:
    assert occurrences("ababa", "aba") == [0, 2]
    assert occurrences("abc", "") == []
