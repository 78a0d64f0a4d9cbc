"""Scores agree with a plain count over sets of word spans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_cli.tasks.minent.scores import Scores

LINES = st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=8), min_size=1, max_size=5)


def as_words(letters, ends):
    words, word = [], ""
    for letter, end in zip(letters, ends, strict=True):
        word += letter
        if end:
            words.append(word)
            word = ""
    return words


def spans(lines):
    """Spans (line, begin, end) and inner boundaries (line, place) of lines of words."""
    tokens, inner, edges = set(), set(), set()
    for n, words in enumerate(lines):
        place = 0
        for word in words:
            tokens.add((n, place, place + len(word)))
            place += len(word)
            edges.add((n, place))
            if word is not words[-1] or place < sum(map(len, words)):
                inner.add((n, place))
    return tokens, inner, edges


def f1(found, gold):
    precision = len(found & gold) / len(found) if found else 0.0
    recall = len(found & gold) / len(gold) if gold else 0.0
    return 200 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(deadline=None, max_examples=150)
@given(LINES, st.data())
def test_scores_equal_a_count_over_spans(lines, data):
    ends = [
        [
            [*data.draw(st.lists(st.booleans(), min_size=len(x) - 1, max_size=len(x) - 1)), True]
            for x in lines
        ]
        for _ in range(2)
    ]
    found, gold = ([as_words(x, e) for x, e in zip(lines, part, strict=True)] for part in ends)
    text = np.array([ord(c) for x in lines for c in x], np.uint32)
    line_ends = np.array([i == len(x) - 1 for x in lines for i in range(len(x))])
    first, second = (np.array([end for line in part for end in line]) for part in ends)
    scores = Scores()
    scores.add(text, first, second, line_ends)
    got = scores.metrics()
    expected = [f1(a, b) for a, b in zip(spans(found), spans(gold), strict=True)]
    types = ({w for line in x for w in line} for x in (found, gold))
    names = ("token_f1", "boundary_f1", "boundary_edges_f1", "lexicon_f1")
    assert [got[n] for n in names] == pytest.approx([*expected, f1(*types)])


def test_a_known_example():
    # gold: the cat | sat; found: thecat | sat -> 1 of 2 words right, 1 of 3 wanted
    gold = np.array([0, 0, 1, 0, 0, 1, 0, 0, 1], bool)
    found = np.array([0, 0, 0, 0, 0, 1, 0, 0, 1], bool)
    lines = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1], bool)
    scores = Scores()
    scores.add(np.array([ord(c) for c in "thecatsat"], np.uint32), found, gold, lines)
    got = scores.metrics()
    assert got["token_precision"] == 50
    assert got["token_recall"] == pytest.approx(100 / 3)
    assert (got["boundary_precision"], got["boundary_recall"]) == (100, 50)
    assert got["lexicon_recall"] == pytest.approx(100 / 3)
