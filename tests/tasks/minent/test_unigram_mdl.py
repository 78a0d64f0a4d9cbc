"""EM with a length penalty: the code length it reports, what it chooses, what it finds."""

import math
from collections import Counter

import numpy as np
import pytest

from kexue_cli.tasks.minent.config import SpacedData
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.description_length import coverage, entropy_nats, of_words
from kexue_cli.tasks.minent.lattice import best_segmentation, build_lattice, expected_counts
from kexue_cli.tasks.minent.scores import Scores, words_of
from kexue_cli.tasks.minent.segmentation import line_end_flags
from kexue_cli.tasks.minent.unigram_mdl import (
    Trial,
    choose_exponent,
    fit_unigram,
    lattice_length,
    try_exponent,
)


@pytest.fixture(scope="module")
def brent(data_dir):
    chunk = open_corpus(SpacedData(path=str(data_dir / "brent" / "br-phono.txt"))).read()
    return chunk, build_lattice(*chunk.segmentable(), 12, 2)


def random_text(seed=0):
    rng = np.random.default_rng(seed)
    words = ["the", "cat", "dog", "sat", "mat", "on", "a", "ran", "big", "red"]
    lines = ["".join(rng.choice(words, rng.integers(2, 7))) for _ in range(300)]
    text = np.array([ord(c) for line in lines for c in line], np.uint32)
    return words, text, np.cumsum([0, *map(len, lines)]).astype(np.int64)


def test_entropy_and_two_part_length_by_hand():
    counts = {"ab": 2, "c": 1}
    length = of_words(counts)
    data = -2 * math.log(2 / 3) - math.log(1 / 3)
    letters = Counter("ab|c|")
    spelling = -sum(n * math.log(n / 5) for n in letters.values())
    assert length.data_nats == pytest.approx(data)
    assert length.lexicon_nats == pytest.approx(spelling)
    assert length.nats_per_character == pytest.approx(data / 5)
    metrics = length.metrics()
    assert metrics["two_part_bits_per_character"] == pytest.approx(
        (data + spelling) / 5 / math.log(2)
    )
    assert metrics["word_length"] == pytest.approx(5 / 3)


def test_l_is_entropy_over_mean_length_equation_2_8():
    counts, lengths = np.array([5, 3, 2]), np.array([1, 2, 4])
    p = counts / 10
    expected = -(p * np.log(p)).sum() / (p * lengths).sum()
    words = {"a": 5, "bc": 3, "defg": 2}
    assert of_words(words).nats_per_character == pytest.approx(expected)
    assert entropy_nats(counts) == pytest.approx(-(p * np.log(p)).sum())
    assert coverage(counts, lengths)["coverage_long_tokens"] == pytest.approx(0.5)
    assert coverage(counts, lengths)["coverage_long_characters"] == pytest.approx(14 / 19)


def test_lattice_length_equals_that_of_the_written_words():
    _, text, starts = random_text()
    lattice = build_lattice(text, starts, 6, 2)
    trial = try_exponent(lattice, 1.5, 3)
    direct = of_words(Counter(words_of(text, trial.ends)))
    assert trial.length.two_part_nats_per_character == pytest.approx(
        direct.two_part_nats_per_character
    )


def test_log_likelihood_of_unpenalised_em_never_falls():
    _, text, starts = random_text()
    lattice = build_lattice(text, starts, 5, 2)
    seen = []
    fit_unigram(lattice, 0.0, 15, watch=lambda iteration, value: seen.append(value))
    # len^0 = 1 for every word: a constant factor, which EM may not spoil
    assert seen[0] < seen[-1]
    em_free = np.ones(len(lattice.lengths)) / len(lattice.lengths)
    values = []
    for _ in range(10):
        expected = np.zeros(len(em_free))
        values.append(expected_counts(lattice.ids, lattice.starts, em_free + 1e-12, expected))
        em_free = expected / expected.sum()
    assert np.all(np.diff(values) > -1e-6)


def test_words_of_a_small_language_are_found():
    words, text, starts = random_text()
    trial = choose_exponent(build_lattice(text, starts, 8, 2), 10)
    found = Counter(words_of(text, trial.ends))
    assert sum(n for w, n in found.items() if w in words) / sum(found.values()) > 0.9


def test_the_chosen_exponent_beats_its_neighbours():
    _, text, starts = random_text(1)
    lattice = build_lattice(text, starts, 8, 2)
    tried: dict[float, float] = {}

    def watch(trial: Trial) -> None:
        tried[trial.exponent] = trial.length.two_part_nats_per_character

    best = choose_exponent(lattice, 5, watch)
    assert tried[best.exponent] == min(tried.values())
    for step in (-0.05, 0.05):
        assert round(best.exponent + step, 4) in tried


def test_reproduces_the_known_score_on_br_phono(brent):
    """Penalised EM, exponent 1.6, ten passes: token F 82.3, P 82.6, R 82.0 (plain Python EM)."""
    chunk, lattice = brent
    ends = best_segmentation(lattice.ids, lattice.starts, fit_unigram(lattice, 1.6, 10))
    scores = Scores()
    scores.add(chunk.code_points, ends, chunk.gold, line_end_flags(chunk))
    metrics = scores.metrics()
    assert metrics["token_f1"] == pytest.approx(82.3, abs=0.1)
    assert metrics["boundary_f1"] == pytest.approx(90.7, abs=0.1)
    assert metrics["lexicon_f1"] == pytest.approx(57.9, abs=0.2)


def test_gold_words_of_br_phono_have_the_known_entropies(brent):
    """Order-0 5.113 bits a character, L of the gold words 2.731, with the lexicon 3.069."""
    chunk, _ = brent
    length = of_words(Counter(words_of(chunk.code_points, chunk.gold))).metrics()
    assert length["entropy_per_character_bits"] == pytest.approx(2.731, abs=5e-4)
    assert length["two_part_bits_per_character"] == pytest.approx(3.069, abs=5e-4)
    assert entropy_nats(np.bincount(chunk.code_points)) / math.log(2) == pytest.approx(
        5.113, abs=5e-4
    )


def test_length_of_a_lattice_segmentation_counts_every_character(brent):
    chunk, lattice = brent
    length = lattice_length(lattice, np.ones(len(chunk.code_points), bool))
    assert (length.characters, length.types) == (95_809, len(lattice.alphabet))
