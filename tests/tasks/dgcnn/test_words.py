"""Words add up to the text, whatever is in it, and the added words are found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_cli.tasks.dgcnn import words
from kexue_cli.tasks.dgcnn.words import WordCutter, word_begins

pytest.importorskip("rjieba")
FAST = WordCutter("rjieba")


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_lengths_add_up(text: str) -> None:
    assert [len(part) for part in [text]] == [sum(map(len, FAST.cut(text)))]
    assert word_begins(FAST.cut(text)).sum() == len(FAST.cut(text))


def test_the_posts_example_in_fine_words() -> None:
    found = FAST.cut("白云山坐落在广州,主峰海拔382米")
    assert found == ["白云山", "坐落", "在", "广州", ",", "主峰", "海拔", "3", "8", "2", "米"]


def test_latin_words_stay_whole_if_wished() -> None:
    assert WordCutter("rjieba", split_latin=False).cut("海拔382米")[1] == "382"


@pytest.mark.parametrize("engine", ["rjieba", "jieba"])
def test_added_words_are_words(engine: str) -> None:
    pytest.importorskip(engine)
    plain, added = WordCutter(engine), WordCutter(engine, ["合租记"])
    assert plain.cut("深圳合租记") == ["深圳", "合租", "记"]
    assert added.cut("深圳合租记") == ["深圳", "合租记"]
    assert plain.key != added.key


def test_both_engines_cut_the_same_words() -> None:
    pytest.importorskip("jieba")
    text = "1994年3月23日，范廷颂被教宗若望保禄二世擢升为天主教河内总教区总主教并兼宗座署理；"
    assert FAST.cut(text) == WordCutter("jieba").cut(text)


def test_without_an_engine_every_character_is_a_word() -> None:
    assert WordCutter("none").cut("白云") == ["白", "云"]


def test_the_first_installed_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WordCutter().engine == "rjieba"
    monkeypatch.setattr(words, "ENGINES", ("no_such_engine",))
    with pytest.raises(words.UserError, match=r"kexue-cli\[dgcnn\].*segmenter=none"):
        WordCutter()
