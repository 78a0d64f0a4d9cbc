"""The default method: resuming while it samples, what its members assume, its tagger."""

from collections import Counter

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.run import checkpoint
from kexue_cli.tasks.minent import best, config, description_length
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.lattice import build_lattice
from kexue_cli.tasks.minent.scores import words_of
from kexue_cli.tasks.minent.unigram_mdl import try_exponent


@pytest.mark.parametrize(
    ("dependence", "members", "stop_at", "sweep"),
    [("bigram", 1, 4, 4), ("none", 3, 7, 3), ("both", 5, 12, 3), ("auto", 3, 5, None)],
    ids=["bigram", "committee", "both kinds", "while deciding"],
)
def test_sampling_resumed_half_way_ends_bit_for_bit_alike(
    run_method, prose, monkeypatch, dependence, members, stop_at, sweep
):
    fit, contexts = run_method
    text = prose.read_text()
    changes = {"sweeps": 8, "average": 6, "dependence": dependence, "members": members}
    whole = fit("best", text, **changes)
    real, calls = best.one_sweep, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == stop_at:
            contexts[-1].stop.request(2)
        return real(*arguments)

    monkeypatch.setattr(best, "one_sweep", stopping)
    with pytest.raises(Exception, match="stopped by signal"):
        fit("best", text, **changes)
    path = contexts[-1].directory.checkpoints / "last.pt"
    cfg = contexts[-1].cfg
    state = checkpoint.load(path, cfg.task.name, cfg.model.name)
    assert (state["fit"] or {}).get("sweep") == sweep
    monkeypatch.setattr(best, "one_sweep", real)
    np.testing.assert_array_equal(fit("best", text, state, **changes), whole)


@pytest.mark.parametrize(
    ("lengths", "kinds"),
    [((1.0, 2.0), {False, True}), ((2.0, 1.0), {True})],
    ids=["longer", "shorter"],
)
def test_a_bigram_that_lengthens_the_description_is_not_left_alone(
    run_method, prose, monkeypatch, lengths, kinds
):
    fit, _ = run_method
    found, swept = iter(lengths), []
    monkeypatch.setattr(best, "two_part_nats", lambda lattice, ends: next(found))
    real = best.one_sweep

    def watched(lattice, ends, settings, seed):
        swept.append(settings.dependent)
        return real(lattice, ends, settings, seed)

    monkeypatch.setattr(best, "one_sweep", watched)
    monkeypatch.setattr(best, "DECIDING_SWEEPS", 3)
    fit("best", prose.read_text(), sweeps=3, average=2)
    assert set(swept[3:]) == kinds


def test_the_tagger_can_be_left_out(run_method, prose, monkeypatch):
    fit, _ = run_method
    changes = {"sweeps": 3, "average": 2, "dependence": "bigram"}
    vote = fit("best", prose.read_text(), tagger=0.0, **changes)
    seen = []

    def opinion(lattice, share, *rest):
        seen.append(share)
        return np.where(share > 0.5, -1.0, 1.0)

    monkeypatch.setattr(best, "second_opinion", opinion)
    other = fit("best", prose.read_text(), **changes)
    np.testing.assert_array_equal((seen[0] > 0.5)[vote != other], vote[vote != other])
    assert (vote != other).any()


def test_a_run_interrupted_by_an_earlier_version_is_a_clear_error(run_method, prose):
    fit, _ = run_method
    state = {"task": {}, "fit": {"exponents": [1.5], "dependent": True, "sweep": 1}}
    with pytest.raises(UserError, match="earlier version"):
        fit("best", prose.read_text(), state)


def test_a_long_text_is_learned_from_in_part_and_decided_on_in_part(run_method, prose, monkeypatch):
    fit, _ = run_method
    tried = []

    def length(lattice, ends):
        tried.append(len(ends))
        return 0.0

    monkeypatch.setattr(best, "DECIDING_CHARACTERS", 500)
    monkeypatch.setattr(best, "two_part_nats", length)
    ends = fit("best", prose.read_text(), sweeps=2, max_characters=1000)
    assert 900 < len(ends) < 1200
    assert tried == [500, 500]


def test_two_part_length_of_members_is_that_of_the_exponents_trials(prose):
    corpus = open_corpus(config.TextData(path=str(prose), alphabet="any", spaces="strip"))
    lattice = build_lattice(*corpus.read().segmentable(), 8, 2)
    trial = try_exponent(lattice, 1.5, 3)
    expected = trial.length.two_part_nats_per_character
    assert best.two_part_nats(lattice, trial.ends) == pytest.approx(expected)


def test_two_part_length_counts_words_that_occur_once(prose):
    corpus = open_corpus(config.TextData(path=str(prose), alphabet="any", spaces="strip"))
    text, starts = corpus.read().segmentable()
    lattice = build_lattice(text, starts, 8, 2)
    ends = np.random.default_rng(0).random(len(text)) < 0.4
    ends[starts[1:] - 1] = True
    for i in range(8, len(ends)):
        ends[i] |= not ends[i - 7 : i].any()
    counts = Counter(words_of(text, ends))
    assert any(len(w) > 1 and n == 1 for w, n in counts.items())
    expected = description_length.of_words(counts).two_part_nats_per_character
    assert best.two_part_nats(lattice, ends) == pytest.approx(expected)
