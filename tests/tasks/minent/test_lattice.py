"""Sums over segmentations agree with a list of all of them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_cli.tasks.minent.lattice import (
    best_segmentation,
    build_lattice,
    consensus,
    expected_counts,
)

PIECES = st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=4)


def lattice_of(pieces, max_length=4, min_count=2):
    text = np.array([ord(c) for p in pieces for c in p], np.uint32)
    starts = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
    return build_lattice(text, starts, max_length, min_count)


def segmentations(piece, words):
    """All ways to write `piece` with `words`."""
    if not piece:
        yield []
    for length in range(1, len(piece) + 1):
        if piece[:length] in words:
            yield from ([piece[:length], *rest] for rest in segmentations(piece[length:], words))


@given(PIECES, st.integers(1, 3))
@settings(deadline=None)
def test_candidates_are_the_repeated_substrings(pieces, min_count):
    lattice = lattice_of(pieces, 4, min_count)
    counts: dict[str, int] = {}
    for piece in pieces:
        for begin, end in itertools.combinations(range(len(piece) + 1), 2):
            if end - begin <= 4:
                counts[piece[begin:end]] = counts.get(piece[begin:end], 0) + 1
    expected = {w: n for w, n in counts.items() if n >= min_count or len(w) == 1}
    found = {lattice.spell(i): int(n) for i, n in enumerate(lattice.counts)}
    assert found == expected
    flat = "".join(pieces)
    for place, row in enumerate(lattice.ids):
        for length, candidate in enumerate(row, 1):
            if candidate >= 0:
                assert lattice.spell(candidate) == flat[place : place + length]


@given(PIECES, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_expected_counts_and_viterbi_equal_enumeration(pieces, seed):
    lattice = lattice_of(pieces)
    weights = np.random.default_rng(seed).uniform(0.01, 3, len(lattice.lengths))
    by_word = {lattice.spell(i): w for i, w in enumerate(weights)}
    expected, log_total, best = dict.fromkeys(by_word, 0.0), 0.0, 0.0
    for piece in pieces:
        ways = [(s, math.prod(by_word[w] for w in s)) for s in segmentations(piece, by_word)]
        total = sum(weight for _, weight in ways)
        log_total += math.log(total)
        best += math.log(max(weight for _, weight in ways))
        for words, weight in ways:
            for word in words:
                expected[word] += weight / total
    found = np.zeros(len(weights))
    assert expected_counts(lattice.ids, lattice.starts, weights, found) == pytest.approx(log_total)
    assert found == pytest.approx([expected[lattice.spell(i)] for i in range(len(found))])
    ends = best_segmentation(lattice.ids, lattice.starts, np.log(weights))
    assert np.log(weights)[lattice.words(ends)].sum() == pytest.approx(best)


def test_a_piece_of_many_characters_does_not_underflow():
    lattice = lattice_of(["ab" * 20_000])
    weights = np.full(len(lattice.lengths), 1e-30)
    found = np.zeros(len(weights))
    log_total = expected_counts(lattice.ids, lattice.starts, weights, found)
    assert -40_000 * 70 < log_total < -10_000 * 60
    assert (found * lattice.lengths).sum() == pytest.approx(40_000)


@pytest.mark.parametrize("seed", range(4))
def test_consensus_gains_the_most_within_the_longest_word(seed):
    rng = np.random.default_rng(seed)
    starts, longest = np.array([0, 7, 8, 14]), 3
    gains = rng.normal(size=14)

    def allowed(ends):
        lengths = np.diff(np.flatnonzero(np.append(True, ends)))
        return ends[starts[1:] - 1].all() and lengths.max() <= longest

    every = (np.array(ends) for ends in itertools.product([False, True], repeat=14))
    best = max(gains[ends].sum() for ends in every if allowed(ends))
    found = consensus(gains, starts, longest)
    assert allowed(found)
    assert gains[found].sum() == pytest.approx(best)
    free = gains > 0
    free[starts[1:] - 1] = True
    np.testing.assert_array_equal(consensus(gains, starts, 14), free)
