"""The tagger: against plain Python, blind to its own fold, a help where votes are noisy."""

import math

import numpy as np
import pytest

from kexue_cli.tasks.minent import tagger
from kexue_cli.tasks.minent.lattice import Lattice, build_lattice
from kexue_cli.tasks.minent.tagger import cross_fitted, gaps_of, second_opinion


def text_of(pieces: list[str]) -> Lattice:
    text = np.array([ord(c) for c in "".join(pieces)], np.uint32)
    starts = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
    return build_lattice(text, starts, 4, 2)


def around(piece: str, gap: int) -> list[tuple[int, str, str]]:
    """The features of the gap after `piece[gap]`; `#` is what lies outside the piece."""

    def at(offset):
        place = gap + offset
        return piece[place] if 0 <= place < len(piece) else "#"

    singles = [(k, at(k), at(k)) for k in (-2, -1, 0, 1, 2, 3)]
    neighbours = [(10 + k, at(k), at(k + 1)) for k in (-2, -1, 0, 1, 2)]
    leaps = [(20 + k, at(k), at(k + 2)) for k in (-1, 0)]
    return singles + neighbours + leaps


def plain(features, wanted, order, rate, ridge):
    """AdaGrad on the logistic loss with one weight a feature; the log-odds of every gap."""
    weights: dict[object, float] = {}
    squares: dict[object, float] = {}

    def step(name, gradient):
        squares[name] = squares.get(name, 1.0) + gradient**2
        weights[name] = weights.get(name, 0.0) - rate * gradient / math.sqrt(squares[name])

    def odds(g):
        return weights.get("bias", 0.0) + sum(weights.get(f, 0.0) for f in features[g])

    for g in order:
        error = 1 / (1 + math.exp(-odds(g))) - wanted[g]
        for f in features[g]:
            step(f, error + ridge * weights.get(f, 0.0))
        step("bias", error)
    return [odds(g) for g in range(len(features))]


def test_training_is_that_of_plain_python():
    pieces = ["abcab", "x", "cabba", "bc", "abcabcabca"]
    gaps = gaps_of(text_of(pieces))
    features = [around(p, i) for p in pieces for i in range(len(p) - 1)]
    assert len(features) == len(gaps.places)
    rng = np.random.default_rng(0)
    wanted = rng.random(len(features)) < 0.5
    order = np.concatenate([rng.permutation(len(features)) for _ in range(3)])
    table, bias = np.zeros((1 << 16, 2), np.float32), np.array([0.0, 1.0])
    table[:, 1] = 1.0
    tagger.learn(gaps, wanted, order, table, bias)
    found = np.empty(len(features))
    tagger.judge(gaps, np.arange(len(features)), table, bias, found)
    expected = plain(features, wanted, order, tagger.RATE, tagger.RIDGE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_gaps_are_inside_pieces_and_see_nothing_beyond_them():
    one, other = gaps_of(text_of(["abcd", "e", "fg"])), gaps_of(text_of(["abcd", "g", "fe"]))
    assert one.characters.tolist() == [0, 1, 2, 5]

    def seen(gaps, g):
        return gaps.symbols[gaps.places[g] - 2 : gaps.places[g] + 4].tolist()

    assert [seen(one, g) for g in range(3)] == [seen(other, g) for g in range(3)]
    assert seen(one, 0) == [0, 0, 1, 2, 3, 4]
    assert seen(one, 3) == [0, 0, 6, 7, 0, 0]


def noisy(share_wrong: float, seed: int = 0):
    """A text of short words, its true cuts, and votes of which some are wrong."""
    rng = np.random.default_rng(seed)
    lexicon = ["ab", "cd", "efg", "h", "ij", "kl", "mno", "p"]
    lines = [[lexicon[k] for k in rng.integers(0, 8, 6)] for _ in range(600)]
    lattice = text_of(["".join(line) for line in lines])
    ends = np.zeros(len(lattice.symbols), np.bool_)
    ends[np.cumsum([len(w) for line in lines for w in line]) - 1] = True
    share = np.where(ends, 0.8, 0.2)
    wrong = rng.random(len(ends)) < share_wrong
    wrong[lattice.starts[1:] - 1] = False
    return lattice, ends, np.where(wrong, 1 - share, share)


def test_a_block_is_judged_by_taggers_that_have_not_seen_it():
    lattice, ends, _ = noisy(0.0)
    gaps = gaps_of(lattice)
    wanted, folds = ends[gaps.characters], gaps.folds()
    before = cross_fitted(gaps, wanted, 0, lambda: None)
    for k in range(tagger.FOLDS):
        after = cross_fitted(gaps, wanted ^ (folds == k), 0, lambda: None)
        np.testing.assert_array_equal(after[folds == k], before[folds == k])
        assert (after[folds != k] != before[folds != k]).any()


def test_folds_are_of_one_size_and_hold_whole_blocks():
    folds = gaps_of(noisy(0.0)[0]).folds()
    counts = np.bincount(folds, minlength=tagger.FOLDS)
    assert counts.min() > 0.9 * counts.max()
    assert np.count_nonzero(np.diff(folds)) == tagger.BLOCKS - 1


def test_the_second_opinion_mends_most_wrong_votes():
    lattice, ends, share = noisy(0.1)
    found = second_opinion(lattice, share, 0.75, 0) > 0
    assert (found != ends).sum() < 0.2 * ((share > 0.5) != ends).sum()


def test_without_weight_the_votes_decide():
    lattice, _, share = noisy(0.1)
    np.testing.assert_array_equal(second_opinion(lattice, share, 0.0, 0) > 0, share > 0.5)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_opinion_depends_on_the_seed_alone(monkeypatch, workers):
    lattice, _, share = noisy(0.1)
    expected = second_opinion(lattice, share, 0.75, 7)
    monkeypatch.setattr(tagger, "available_cores", lambda: workers)
    np.testing.assert_array_equal(second_opinion(lattice, share, 0.75, 7), expected)
    assert (second_opinion(lattice, share, 0.75, 8) != expected).any()


def test_pieces_of_one_character_leave_nothing_to_judge():
    odds = second_opinion(text_of(["a", "b", "a"]), np.ones(3), 0.75, 0)
    assert (odds > 0).all()


def test_a_request_to_stop_is_heard():
    lattice, _, share = noisy(0.1)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second_opinion(lattice, share, 0.75, 0, stop)
