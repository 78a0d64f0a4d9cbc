"""The corpus reader keeps every character, line end and gold boundary, in chunks of any size."""

import gzip
import lzma

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.config import SpacedData, TextData
from kexue_cli.tasks.minent.data import open_corpus, read_gold
from kexue_cli.tasks.minent.segment import cut_chunk, spread_ends
from kexue_cli.tasks.minent.segmentation import spaced_text, tally_and_write
from kexue_cli.tasks.minent.splitting import Splitting, chunks_of, concatenate

TEXT = "他来到了ABC大厦，\n\n共12层 很高。\nthe cat 'sat'\n"


def pieces(chunk):
    return [
        "".join(map(chr, chunk.code_points[a:b]))
        for a, b in zip(chunk.starts[:-1], chunk.starts[1:], strict=True)
    ]


def cut_all(chunk):
    """Words of two letters."""
    yield chunk, cut_chunk(chunk, lambda letters, starts: np.arange(len(letters)) % 2 == 1)


def split(text, name, spaces="cut", size=1 << 20, **options):
    splitting = Splitting(Alphabet.named(name), spaces, **options)
    return concatenate(list(chunks_of(iter([text]), splitting, size)))


def test_han_keeps_latin_and_digits_whole_and_punctuation_alone():
    chunk = split(TEXT, "han")
    assert pieces(chunk) == [
        "他来到了", "ABC", "大厦", "，", "共", "12", "层", "很高", "。",
        "the", "cat", "'", "sat", "'",
    ]  # fmt: skip
    assert [p for p, free in zip(pieces(chunk), chunk.free, strict=True) if free] == [
        "他来到了", "大厦", "共", "层", "很高",
    ]  # fmt: skip


def test_any_cuts_only_at_line_ends_when_spaces_are_stripped():
    assert pieces(split(TEXT, "any", "strip")) == [
        "他来到了ABC大厦，",
        "共12层很高。",
        "thecat'sat'",
    ]
    assert pieces(split(TEXT, "any", "strip", sentence_ends=False)) == [
        TEXT.replace("\n", "").replace(" ", "")
    ]


NUMBERS = "第2008年，占3.5%的共１２．３万。1.\n2、x7在10：30"


def test_a_number_is_one_letter_of_the_words_around_it():
    chunk = split(NUMBERS, "han", numbers="join")
    assert pieces(chunk) == [
        "第2008年", "，", "占3.5%的共１２．３万", "。", "1", ".", "2", "、", "x", "7在10：30",
    ]  # fmt: skip
    letters, starts = chunk.segmentable()
    assert "".join(map(chr, letters)) == "第0年占0的共0万000在0"
    assert starts.tolist() == [0, 3, 9, 10, 11, 14]
    ends = spread_ends(chunk, np.ones(len(letters), np.bool_))
    assert (
        spaced_text(chunk, ends)
        == "第 2008 年 ， 占 3.5% 的 共 １２．３ 万 。 1 .\n2 、 x 7 在 10：30 "
    )


def test_a_number_of_digits_or_of_han_numerals_stays_whole():
    text = "第二十三，共１２．３万占3.5%的二○○八年一\n百个、○"
    assert pieces(split(text, "han", numbers="whole")) == [
        "第二十三", "，", "共", "１２．３", "万占", "3.5%", "的二○○八年一", "百个", "、", "○",
    ]  # fmt: skip
    chunk = split(text, "han", numbers="whole")
    every = cut_chunk(chunk, lambda letters, starts: np.ones(len(letters), np.bool_))
    assert (
        spaced_text(chunk, every)
        == "第 二十三 ， 共 １２．３ 万 占 3.5% 的 二○○八 年 一\n百 个 、 ○ "
    )


@pytest.mark.parametrize("numbers", ["whole", "join"])
@pytest.mark.parametrize("spaces", ["cut", "gold"])
def test_no_chunk_border_cuts_a_number(numbers, spaces):
    text = "他占12.5的人，和 3 . 7 个三十四万, 10：30 二○\n" * 9
    whole = split(text, "han", spaces, numbers=numbers)
    for size in range(24, 60):
        parts = split(text, "han", spaces, size, numbers=numbers)
        assert pieces(parts) == pieces(whole)
        np.testing.assert_array_equal(parts.uncut, whole.uncut)


@pytest.mark.parametrize("numbers", ["digits", "whole", "join"])
def test_a_blank_text_is_said_to_be_one(tmp_path, numbers):
    (tmp_path / "blank.txt").write_text(" \n\n")
    data = TextData(path=str(tmp_path / "blank.txt"), alphabet="han", numbers=numbers)
    with pytest.raises(UserError, match="found no visible character"):
        open_corpus(data).read()


def test_numbers_of_han_text_stay_whole_where_nothing_else_is_said(tmp_path):
    (tmp_path / "zh").write_text("从一九九八年到二十一世纪\n" * 3)
    (tmp_path / "en").write_text("of 1998 and 21\n" * 3)

    def found(name, han_numbers="whole", **options):
        data = TextData(path=str(tmp_path / name), **options)
        return open_corpus(data, han_numbers=han_numbers).splitting.numbers

    assert found("zh") == "whole"
    assert found("zh", numbers="digits") == found("zh", keep_digits=False) == "digits"
    assert found("zh", "digits", numbers="join") == "join"
    assert found("en") == "digits"


def test_numbers_are_seen_the_same_whether_or_not_spaces_are_the_gold():
    spaced = split("占 3 . 5 % 的", "han", "gold", numbers="join")
    letters, _ = spaced.segmentable()
    assert "".join(map(chr, letters)) == "占0的"
    assert split("占3 .5", "han", "cut", numbers="join").free.tolist() == [True, False, True]


def test_numbers_are_counted_as_one_letter():
    tally = tally_and_write(cut_all(split("2008年5月，2009年", "han", numbers="join")), None, None)
    assert tally.words == {"0年": 2, "0月": 1}
    assert tally.others == {"，": 1}
    assert tally.characters.sum() == 7


def test_blank_lines_are_remembered():
    assert split(TEXT, "han").line_ends.tolist() == [10, 10, 17, 28]


def test_gold_ends_are_the_spaces_and_line_ends():
    chunk = split("ab c\nd\n", "any", "gold")
    assert chunk.gold.tolist() == [False, True, True, True]
    assert pieces(chunk) == ["abc", "d"]


def test_separators_count_as_spaces():
    assert pieces(split("ab/c\n", "any", "cut", separators="/")) == ["ab", "c"]


@pytest.mark.parametrize("size", [10, 17, 30])
def test_marks_in_some_chunks_only_are_kept_in_the_whole(size):
    text = "abc" * 30 + "e\u0301" + "abc" * 30
    parts = split(text, "any", "strip", size)
    np.testing.assert_array_equal(parts.uncut, split(text, "any", "strip").uncut)
    assert cut_chunk(parts, lambda letters, starts: np.ones(len(letters), np.bool_)).sum() == 181


@pytest.mark.parametrize("numbers", ["whole", "join"])
def test_a_number_longer_than_a_chunk_stays_apart_from_the_piece_before(numbers):
    text = "ab，" + "二" * 60 + "，cd，" + "5" * 60 + "，"
    whole = split(text, "han", numbers=numbers)
    for size in range(4, 50):
        assert pieces(split(text, "han", size=size, numbers=numbers)) == pieces(whole)


@pytest.mark.parametrize("name", ["han", "letters", "any"])
@pytest.mark.parametrize("spaces", ["cut", "strip", "gold"])
@pytest.mark.parametrize("sentence_ends", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_chunk_size_changes_nothing(name, spaces, sentence_ends, size):
    text = TEXT * 3 + "x" * 30 + " \n" + TEXT
    whole = split(text, name, spaces, sentence_ends=sentence_ends)
    parts = split(text, name, spaces, size, sentence_ends=sentence_ends)
    for field in ("code_points", "starts", "free", "line_ends", "gold"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field), err_msg=field)


def test_segmentable_holds_the_free_pieces_only():
    characters, starts = split(TEXT, "han").segmentable()
    assert "".join(map(chr, characters)) == "他来到了大厦共层很高"
    assert starts.tolist() == [0, 4, 6, 7, 8, 10]


def test_compressed_files_and_folders_read_alike(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    raw = TEXT.encode()
    (tmp_path / "a.txt").write_bytes(raw)
    (tmp_path / "b.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "c.xz").write_bytes(lzma.compress(raw))
    (tmp_path / "d.zst").write_bytes(zstandard.ZstdCompressor().compress(raw))
    (tmp_path / ".hidden").write_bytes(b"\0")
    one = open_corpus(TextData(path=str(tmp_path / "a.txt"))).read()
    four = open_corpus(TextData(path=str(tmp_path))).read()
    assert pieces(four) == pieces(one) * 4
    assert pieces(open_corpus(TextData(path=str(tmp_path / "*.gz"))).read()) == pieces(one)


def test_auto_alphabet_looks_at_the_script(tmp_path):
    (tmp_path / "zh").write_text("人们都说好的\n")
    (tmp_path / "en").write_text("they all say\n")
    assert open_corpus(TextData(path=str(tmp_path / "zh"))).splitting.alphabet.name == "han"
    assert open_corpus(TextData(path=str(tmp_path / "en"))).splitting.alphabet.name == "letters"
    assert open_corpus(SpacedData(path=str(tmp_path / "en"))).splitting.alphabet.name == "any"


def test_read_all_gives_nothing_of_a_longer_corpus(tmp_path):
    (tmp_path / "a").write_text(TEXT)
    corpus = open_corpus(TextData(path=str(tmp_path / "a")))
    assert corpus.read_all(10) is None
    whole = corpus.read_all(28)
    assert whole is not None
    assert pieces(whole) == pieces(corpus.read())


def test_reading_a_beginning_takes_little_more_than_is_wanted(tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 2000)
    corpus = open_corpus(TextData(path=str(tmp_path / "a.txt")))
    assert 8000 <= len(corpus.read(8000).code_points) < 9000
    assert len(corpus.read(10**6).code_points) == 17 * 2000


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I\u2764\ufe0fyou", ["I", "\u2764\ufe0f", "you"]),
        (
            "a\U0001f468\u200d\U0001f469\U0001f3fbb",
            ["a", "\U0001f468\u200d\U0001f469\U0001f3fb", "b"],
        ),
        ("x1\ufe0f\u20e3y", ["x", "1\ufe0f\u20e3", "y"]),
        ("م‌ن", ["م‌ن"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
    ],
)
def test_marks_and_joiners_stay_with_their_character(tmp_path, text, wanted):
    (tmp_path / "marks").write_text(text, encoding="utf-8")
    chunk = open_corpus(TextData(path=str(tmp_path / "marks"), alphabet="letters")).read()
    assert pieces(chunk) == wanted
    every = cut_chunk(chunk, lambda letters, starts: np.ones(len(letters), np.bool_))
    marks = np.isin(chunk.code_points[1:], [0xFE0F, 0x200D, 0x1F3FB, 0x20E3, 0x301, 0x200C])
    assert not every[:-1][marks].any()  # no word begins with one


def test_gold_with_other_lines_serves_a_limited_text(tmp_path):
    (tmp_path / "text").write_text("abc\nde\nfgh\n")
    (tmp_path / "gold").write_text("ab c d e f gh\n")
    data = TextData(path=str(tmp_path / "text"), gold=str(tmp_path / "gold"))
    gold = read_gold(data, open_corpus(data, max_lines=2))
    np.testing.assert_array_equal(gold, [False, True, True, True, True])
