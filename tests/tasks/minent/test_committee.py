"""The committee of `best`: what its members assume, and the exponent they lie around."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent import committee, unigram_mdl
from kexue_cli.tasks.minent.committee import (
    Committee,
    Member,
    exponent_between,
    exponent_of_stretches,
    plan,
)
from kexue_cli.tasks.minent.lattice import build_lattice
from kexue_cli.tasks.minent.unigram_mdl import choose_exponent, try_exponent


def test_members_of_both_kinds_lie_around_the_exponent():
    members = plan("both", 2.0, None)
    kinds = [member.dependent for member in members]
    assert len(members) == 5
    assert 0 < sum(kinds) < len(kinds) / 2
    assert min(members).exponent < 2.0 < max(members).exponent


@pytest.mark.parametrize(("dependence", "dependent"), [("bigram", True), ("none", False)])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_members_of_one_kind_are_as_many_as_asked(dependence, dependent, count):
    members = plan(dependence, 1.5, count)
    assert len(members) == count
    assert {member.dependent for member in members} == {dependent}


def test_exponents_never_fall_below_zero():
    assert min(plan("both", 0.1, 5)).exponent == 0.0


def text_of_words(size: int, seed: int = 0) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    lexicon = [rng.integers(97, 117, rng.integers(1, 5)) for _ in range(60)]
    words = [lexicon[k] for k in rng.integers(0, 60, size)]
    starts = np.cumsum([0, *(sum(map(len, words[i : i + 5])) for i in range(0, size, 5))])
    return np.concatenate(words).astype(np.uint32), starts.astype(np.int64)


def test_a_text_shorter_than_a_stretch_has_the_exponent_of_all_of_it():
    lattice = build_lattice(*text_of_words(1000), 6, 2)
    assert exponent_of_stretches(lattice, 5) == exponent_between(lattice, 5)


def test_the_exponent_lies_where_a_parabola_through_the_shortest_length_is_lowest():
    lattice = build_lattice(*text_of_words(1000), 6, 2)
    best = choose_exponent(lattice, 5).exponent
    tried = np.array([best - 0.05, best, best + 0.05])
    lengths = [try_exponent(lattice, b, 5).length.two_part_nats_per_character for b in tried]
    bend, slope, _ = np.polyfit(tried - best, lengths, 2)
    assert bend > 0
    assert exponent_between(lattice, 5) == pytest.approx(best - slope / (2 * bend), abs=1e-6)


def test_an_exponent_at_the_end_of_the_range_is_taken_as_it_is(monkeypatch):
    lattice = build_lattice(*text_of_words(1000), 6, 2)
    monkeypatch.setattr(unigram_mdl, "EXPONENT_RANGE", (1.6, 1.6))
    assert exponent_between(lattice, 5) == 1.6


def test_stretches_give_the_mean_choice_and_cut_pieces_at_their_edges(monkeypatch):
    lattice = build_lattice(*text_of_words(2000), 6, 2)
    monkeypatch.setattr(committee, "STRETCH_CHARACTERS", 1001)
    chosen = iter([1.2, 1.9, 1.4, 1.3, 1.8])
    seen = []

    def choose(stretch, iterations):
        seen.append(stretch)
        return next(chosen)

    monkeypatch.setattr(committee, "exponent_between", choose)
    assert exponent_of_stretches(lattice, 5) == pytest.approx(1.52)
    assert len(seen) == 5
    size = len(lattice.symbols)
    for stretch, begin in zip(seen, np.linspace(0, size - 1001, 5).astype(int), strict=True):
        letters = stretch.alphabet[stretch.symbols]
        np.testing.assert_array_equal(letters, lattice.symbols[begin : begin + 1001])
        assert stretch.starts[0] == 0
        assert stretch.starts[-1] == 1001
        inside = set(lattice.starts - begin) & set(range(1, 1001))
        assert set(stretch.starts[1:-1]) == inside


def test_a_committee_survives_being_saved():
    ends = np.array([[True, False, True], [True, True, True]])
    before = Committee([Member(2.0, False), Member(1.9, True)], ends, 3, np.array([2, 1, 2]))
    after = Committee.from_state(before.state())
    assert after.members == before.members
    assert after.sweep == 3
    np.testing.assert_array_equal(after.ends, ends)
    np.testing.assert_array_equal(after.votes, before.votes)


def test_a_bigram_speaks_for_a_committee_that_has_one():
    def speaker(dependence):
        members = plan(dependence, 2.0, None)
        return Committee(members, np.ones((len(members), 2), np.bool_)).speaker()

    assert speaker("both").dependent
    assert speaker("bigram") == Member(2.0, True)
    assert not speaker("none").dependent


def test_a_committee_saved_by_an_earlier_version_is_a_clear_error():
    state = Committee([Member(2.0, False)], np.ones((1, 3), np.bool_)).state()
    with pytest.raises(UserError, match="start it anew, without resume"):
        Committee.from_state(state | {"dependent": False})
