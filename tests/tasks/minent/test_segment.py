"""Segmentation with a lexicon: the best path, streams of any chunking, the written text."""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.lexicon import (
    Lexicon,
    branching_entropies,
    known_words,
    read_lexicon,
)
from kexue_cli.tasks.minent.outputs import lexicon_table
from kexue_cli.tasks.minent.scores import words_of
from kexue_cli.tasks.minent.segment import SAFE_TAIL, WordTrie, cut_chunk, cut_corpus, in_parallel
from kexue_cli.tasks.minent.segmentation import spaced_text, tally_and_write
from kexue_cli.tasks.minent.splitting import Splitting, chunks_of, code_points_of, concatenate
from kexue_cli.tasks.minent.word_numbers import numbered_words
from kexue_cli.tasks.minent.word_trie import FIRST, NONE, ROOT, WORD, build_trie, follow

WORDS = ["a", "b", "ab", "ba", "abb", "bab", "aab"]
SCORES = np.array([-2.0, -2.5, -3.0, -3.6, -4.1, -4.0, -4.3])


def code_points(text):
    return np.array([ord(c) for c in text], np.uint32)


@dataclass(frozen=True)
class TextCorpus(Corpus):
    """A corpus from a string in chunks of a fixed size."""

    text: str = ""
    size: int = 100

    def chunks(self, chunk_characters=0):
        return chunks_of(iter([self.text]), self.splitting, self.size)


def text_corpus(text, splitting, size):
    return TextCorpus(Source(()), splitting, None, text, size)


@given(st.text("abc", min_size=1, max_size=9))
@settings(deadline=None)
def test_cut_is_the_best_of_all_segmentations(text):
    trie = WordTrie.of(WORDS, SCORES, workers=1)
    by_word = dict(zip(WORDS, SCORES, strict=True))

    def total(ends):
        places = [0, *(np.flatnonzero(ends) + 1)]
        words = [text[a:b] for a, b in itertools.pairwise(places)]
        return sum(by_word.get(w, trie.unknown if len(w) == 1 else -np.inf) for w in words)

    ways = itertools.product([False, True], repeat=len(text) - 1)
    best = max(total([*cuts, True]) for cuts in ways)
    found = trie.cut(code_points(text), np.array([0, len(text)]))
    assert total(found) == pytest.approx(best)


def test_every_word_is_found_in_the_trie_and_nothing_else():
    rng = np.random.default_rng(0)
    words = sorted({"".join(rng.choice(list("ab的"), rng.integers(1, 7))) for _ in range(300)})
    nodes, numbers = build_trie(words)

    def number(word):
        node = np.int64(ROOT)
        for code in code_points(word):
            if nodes[node, FIRST] == NONE:
                return -1
            node = follow(nodes, node, numbers[code])
            if node == NONE:
                return -1
        return nodes[node, WORD]

    assert [number(word) for word in words] == list(range(len(words)))
    others = {"".join(rng.choice(list("ab的c"), rng.integers(1, 8))) for _ in range(300)}
    assert {number(word) for word in others - set(words)} == {-1}


def test_a_lexicon_without_words_cuts_every_character():
    trie = WordTrie.of([], np.empty(0), workers=1)
    assert trie.cut(code_points("ab"), np.array([0, 2])).all()


def test_parallel_blocks_change_nothing():
    rng = np.random.default_rng(0)
    text = code_points("".join(rng.choice(["a", "b"], 400_000)))
    starts = np.concatenate(([0], np.sort(rng.choice(400_000, 999, replace=False)), [400_000]))
    trie = WordTrie.of(WORDS, SCORES, workers=1)
    whole = trie.cut(text, starts)
    np.testing.assert_array_equal(in_parallel(trie.cut, text, starts, 3), whole)


@pytest.mark.parametrize("alphabet", ["any", "letters"])
@pytest.mark.parametrize("numbers", ["digits", "whole", "join"])
def test_a_stream_is_cut_as_the_whole_text(alphabet, numbers):
    rng = np.random.default_rng(1)
    shares = [0.36, 0.3, 0.1, 0.06, 0.06, 0.02, 0.04, 0.03, 0.03]
    parts = ["".join(rng.choice(list("abc一1.,\n "), 400, p=shares)) for _ in range(20)]
    text = "x\n\n" + "".join(parts) + "ab1.5一二" * 3 * SAFE_TAIL + "\n\ny z\n"
    splitting = Splitting(Alphabet.named(alphabet), "cut", numbers=numbers)
    trie = WordTrie.of(WORDS, SCORES, workers=1)
    whole = concatenate(list(chunks_of(iter([text]), splitting, 1 << 20)))
    ends = cut_chunk(whole, trie.cut)
    for size in (700, 1000, 5000):
        pieces = list(cut_corpus(text_corpus(text, splitting, size), trie.cut))
        np.testing.assert_array_equal(np.concatenate([e for _, e in pieces]), ends)
        joined = "".join(spaced_text(c, e) for c, e in pieces)
        assert joined.replace(" \n", "\n") == spaced_text(whole, ends).replace(" \n", "\n")


ODD_TEXT = st.text(st.sampled_from("ab,é好。\u3000 \n😀\ud800"), max_size=40)


@settings(deadline=None)
@given(text=ODD_TEXT, seed=st.integers(0, 2**32 - 1))
def test_spaced_text_keeps_characters_of_every_width_and_all_lines(text, seed):
    chunk = Splitting(Alphabet.named("any"), "strip").split(code_points_of(text), False)
    ends = np.random.default_rng(seed).random(len(chunk.code_points)) < 0.5
    kept = [c for c in text if c == "\n" or not c.isspace()]
    ended = iter(ends.tolist())
    expected, inside, waiting = "", False, ""
    for character, following in itertools.zip_longest(kept, kept[1:]):
        if character == "\n":
            waiting += "\n"
        else:
            expected += character
            inside = not next(ended)
        if not inside:
            expected += waiting or (" " if character != "\n" and following != "\n" else "")
            waiting = ""
    assert spaced_text(chunk, ends) == expected + waiting


@settings(deadline=None)
@given(text=ODD_TEXT, seed=st.integers(0, 2**32 - 1))
def test_words_are_numbered_by_their_place_in_the_list(text, seed):
    characters = code_points(text + "a")
    ends = np.random.default_rng(seed).random(len(characters)) < 0.5
    ends[-1] = True
    used = words_of(characters, ends)
    listed = list(dict.fromkeys(used))[1:]
    expected = [listed.index(word) if word in listed else len(listed) for word in used]
    assert numbered_words(listed, characters, ends).tolist() == expected


def test_written_text_is_the_text_with_spaces(tmp_path):
    text = "\nab,ba\n\nabb ab\n"
    splitting = Splitting(Alphabet.named("letters"), "cut")
    trie = WordTrie.of(WORDS, SCORES, workers=1)
    path = tmp_path / "out.txt"
    tally = tally_and_write(cut_corpus(text_corpus(text, splitting, 100), trie.cut), None, path)
    assert path.read_text() == "\nab , ba\n\nabb ab\n"
    assert tally.words == {"ab": 2, "abb": 1, "ba": 1}
    assert tally.others == {",": 1}


def test_lexicon_files_round_trip_and_bad_lines_are_named(tmp_path):
    lexicon = Lexicon.of({"你好": 3, "a": 7, "b": 7})
    assert lexicon.words == ["a", "b", "你好"]
    path = tmp_path / "lexicon.txt"
    path.write_text("\ufeff" + lexicon.jieba_text(), encoding="utf-8")
    assert read_lexicon(path).words == lexicon.words
    path.write_text("B超 3 n\na 7 eng\nB超 3 n\n")
    assert read_lexicon(path).counts.tolist() == [7, 3]
    for bad in ("a\n", "a b\n", "a 1 n x\n", "a ²\n", "a 99999999999999999999\n"):
        path.write_text("ok 3\n\n" + bad)
        with pytest.raises(UserError, match=r"lexicon\.txt: line 3: expected `word count`"):
            read_lexicon(path)
    path.write_text("a 1\na 2\n")
    with pytest.raises(UserError, match="line 2: 'a' has the count 2 here, 1 further up"):
        read_lexicon(path)
    path.write_bytes("你".encode("gb18030"))
    with pytest.raises(UserError, match="byte 0 is not UTF-8"):
        read_lexicon(path)
    with pytest.raises(UserError, match="cannot be read"):
        known_words(str(tmp_path / "none"))


def test_an_exclusion_list_that_is_none_is_named_with_its_setting(tmp_path):
    with pytest.raises(UserError, match=r"task\.exclude: expected .* found nothing"):
        known_words("")
    with pytest.raises(UserError, match=rf"task\.exclude={tmp_path}: cannot be read"):
        known_words(str(tmp_path))


@pytest.mark.parametrize("size", [50, 100_000])
def test_tokens_of_any_length_are_counted(size):
    long = "x" * 300 + "é" * 70_000
    text = f"{long} ab {long}{'你' * 300}ab 1{'2' * 255}\n"
    corpus = text_corpus(text, Splitting(Alphabet.named("letters"), "cut"), size)

    def whole(letters, starts):
        return np.isin(np.arange(len(letters)), starts[1:] - 1)

    stream = list(cut_corpus(corpus, whole))
    tally = tally_and_write(iter(stream), None, None)
    written = Counter("".join(spaced_text(*part) for part in stream).split())
    assert tally.words | tally.others == written
    assert {len(word) for word in tally.others} == {256}
    table = lexicon_table(tally, *stream[0])
    assert table["probability"].sum() == pytest.approx(1 - 1 / written.total())
    assert tally.metrics()["tokens"] == written.total()


def test_branching_entropy_counts_neighbours_and_lets_sentence_ends_be_free():
    tokens = np.array([0, 1, 0, 2, 0, 1])
    ends = np.array([0, 0, 0, 1, 0, 1], bool)
    left, right = branching_entropies(tokens, ends, 3)
    # word 0 follows: begin, 1, begin -> two begins count apart; it is followed by 1, 2, 1
    assert left[0] == pytest.approx(np.log2(3))
    assert right[0] == pytest.approx(-(2 / 3) * np.log2(2 / 3) - (1 / 3) * np.log2(1 / 3))
    assert (left[1], left[2]) == (0, 0)
    assert right[1] == pytest.approx(1)


def test_a_list_of_known_words_may_be_a_csv(tmp_path):
    (tmp_path / "known.csv").write_text('word,count\nthe,3\n"a,b",1\n')
    assert known_words(str(tmp_path / "known.csv")) == {"the", "a,b"}
    (tmp_path / "open.csv").write_text('"the,3\n' + "a,1\n" * 60_000)
    with pytest.raises(UserError, match=r"open\.csv: not a \.csv .*quotation mark"):
        known_words(str(tmp_path / "open.csv"))
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match=r"none\.txt: expected a word on each line, found none"):
        known_words(str(tmp_path / "none.txt"))
