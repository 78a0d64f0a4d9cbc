"""Cutting by mutual information: against plain Python, and the choice of the threshold."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import Interrupted, UserError
from kexue_cli.tasks.minent import lexicon_method, symbols
from kexue_cli.tasks.minent.frequent import FrequentNgrams, frequent_ngrams
from kexue_cli.tasks.minent.joining import Joiner, cohesions, solid_ngrams
from kexue_cli.tasks.minent.lexicon_method import by_count, lexicon_of
from kexue_cli.tasks.minent.ngrams import NgramCounts, count_ngrams
from kexue_cli.tasks.minent.pmi_cut import (
    CutRules,
    PmiCut,
    cut,
    rising,
    sample_of,
    two_part_length,
)
from tests.tasks.minent.counting import SETTINGS, Recorder, corpus_of

WORDS = ["the", "cat", "dog", "sees", "likes", "a", "bird", "and", "old", "green", "walks"]


def sentences(seed: int = 0, lines: int = 400) -> list[str]:
    """Sentences without spaces, drawn from a small lexicon."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(lines)]


def plain_solid(lines: list[str], order: int, min_pmi: list[float], min_count: int) -> set[str]:
    counts = [
        Counter(s[i : i + m] for s in lines for i in range(len(s) - m + 1))
        for m in range(1, order + 1)
    ]
    total = [sum(c.values()) for c in counts]

    def log_p(w: str) -> float:
        return math.log(counts[len(w) - 1][w] / total[len(w) - 1])

    return {
        w
        for m in range(2, order + 1)
        for w, n in counts[m - 1].items()
        if n >= min_count
        and min(log_p(w) - log_p(w[:j]) - log_p(w[j:]) for j in range(1, m)) >= min_pmi[m - 1]
    }


def plain_join(line: str, solid: set[str], order: int) -> list[str]:
    """Cut where no solid n-gram covers the gap."""
    joined = [False] * (len(line) + 1)
    for i in range(len(line)):
        for m in range(2, order + 1):
            if line[i : i + m] in solid and i + m <= len(line):
                joined[i + 1 : i + m] = [True] * (m - 1)
    edges = [0, *(k for k in range(1, len(line)) if not joined[k]), len(line)]
    return [line[a:b] for a, b in pairwise(edges)]


def frequent_in(counts: NgramCounts, at_least: int) -> FrequentNgrams:
    return frequent_ngrams([counts.records], counts.table, counts.order, at_least)


def joiner_of(ngrams: FrequentNgrams, thresholds: list[float]) -> Joiner:
    return Joiner(ngrams.table, ngrams.order, solid_ngrams(cohesions(ngrams), thresholds))


def pmi_cut(**settings: Any) -> PmiCut:
    given: dict[str, Any] = {
        "order": 4, "min_pmi": None, "min_count": 2, "min_proba": 0.0, "rare": "split",
        "redundancy": "entropy", "nats_per_joint": 1.0, "grid": [0.0, 0.3, 0.6, 1.0, 2.0],
        "choose_on_characters": 100_000,
    }  # fmt: skip
    return PmiCut(**{**given, **SETTINGS, **settings})


@pytest.mark.parametrize("order", [2, 3, 4])
def test_pieces_are_cut_where_no_solid_ngram_joins(tmp_path: Path, order: int) -> None:
    lines = sentences()
    thresholds = rising(0.37, order)
    counts = count_ngrams(corpus_of(tmp_path / "t.txt", lines), order)
    joiner = Joiner(
        counts.table, order, solid_ngrams(cohesions(frequent_in(counts, 3)), thresholds)
    )
    table = joiner.count_words(corpus_of(tmp_path / "t.txt", lines))
    found = lexicon_of(table, counts.table, by_count(table))
    solid = plain_solid(lines, order, thresholds, 3)
    expected = Counter(word for line in lines for word in plain_join(line, solid, order))
    assert dict(zip(found.words, found.counts.tolist(), strict=True)) == dict(expected)


@pytest.mark.parametrize("line_ends", [True, False])
def test_words_counted_in_many_jobs_are_the_same_in_the_same_order(
    tmp_path: Path, line_ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols, "CHUNK_CHARACTERS", 64)
    lines = sentences()
    corpus = corpus_of(tmp_path / "t.txt", lines if line_ends else ["".join(lines)])
    counts = count_ngrams(corpus, 3)
    joiner = Joiner(
        counts.table, 3, solid_ngrams(cohesions(frequent_in(counts, 3)), [0.0, 1.0, 2.0])
    )
    one, many = joiner.count_words(corpus), joiner.count_words(corpus, job_symbols=100, workers=3)
    spelled = [
        lexicon_of(table, counts.table, np.arange(int(table.filled[0]))) for table in (one, many)
    ]
    assert spelled[0].words == spelled[1].words
    np.testing.assert_array_equal(spelled[0].counts, spelled[1].counts)


def test_removal_keeps_every_character_in_some_word(tmp_path: Path) -> None:
    lines = sentences(1)
    corpus = corpus_of(tmp_path / "t.txt", lines)
    counts = count_ngrams(corpus, 4)
    table = cut(corpus, joiner_of(frequent_in(counts, 5), rising(0.3, 4)), CutRules(min_count=5))
    length = two_part_length(table)
    assert length.characters == sum(map(len, lines))
    words = lexicon_of(table, counts.table, by_count(table))
    rare = [w for w, n in zip(words.words, words.counts, strict=True) if len(w) > 1 and n < 5]
    assert not rare


def test_two_part_length_equals_its_definition(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "t.txt", sentences(2))
    counts = count_ngrams(corpus, 3)
    table = cut(corpus, joiner_of(frequent_in(counts, 2), rising(0.5, 3)), CutRules())
    words = lexicon_of(table, counts.table, by_count(table))
    n = words.counts.sum()
    data = -sum(int(c) * math.log(c / n) for c in words.counts)
    spelling = Counter("".join(words.words)) + Counter({"end": len(words)})
    letters = sum(spelling.values())
    lexicon = -sum(c * math.log(c / letters) for c in spelling.values())
    length = two_part_length(table)
    assert length.data_nats + length.lexicon_nats == pytest.approx(data + lexicon)


def test_the_threshold_with_the_shortest_description_is_chosen_and_finds_the_words(
    tmp_path: Path,
) -> None:
    ctx, method = Recorder(), pmi_cut()
    method.fit(ctx, corpus_of(tmp_path / "t.txt", sentences(3, lines=2000)))  # type: ignore[arg-type]
    lengths = [row["two_part_nats_per_character"] for row in ctx.logged]
    assert len(lengths) >= 3
    chosen = ctx.logged[int(np.argmin(lengths))]
    assert chosen["vocabulary"] == len(method.lexicon())
    found = set(method.lexicon().words)
    assert len(found & set(WORDS)) >= 9


def test_cutting_gives_back_the_lexicons_words(tmp_path: Path) -> None:
    method = pmi_cut(min_pmi=0.3)
    method.fit(Recorder(), corpus_of(tmp_path / "t.txt", sentences(4)))  # type: ignore[arg-type]
    text = np.array([ord(c) for c in "thecatseesabird"], np.uint32)
    ends = method.cut(text, np.array([0, len(text)]))
    again = pmi_cut()
    again.load_state_dict(method.state_dict())
    np.testing.assert_array_equal(again.cut(text, np.array([0, len(text)])), ends)
    assert ends[-1]
    assert 3 <= ends.sum() < len(text)


def test_one_character_repeated_gives_that_character_and_a_warning(tmp_path: Path) -> None:
    ctx, method = Recorder(), pmi_cut(min_pmi=[0.5, 1, 1.5])
    method.fit(ctx, corpus_of(tmp_path / "t.txt", ["a" * 500]))  # type: ignore[arg-type]
    assert method.lexicon().words == ["a"]
    assert "no word of two or more characters was found" in ctx.warnings[0]


def test_a_stop_ends_the_fit(tmp_path: Path) -> None:
    ctx, method = Recorder(), pmi_cut()
    ctx.stop.request(2)
    with pytest.raises(Interrupted):
        method.fit(ctx, corpus_of(tmp_path / "t.txt", sentences(5)))  # type: ignore[arg-type]


def test_a_run_stopped_while_it_cut_goes_on_without_counting_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path / "t.txt", sentences(8))
    expected, again = pmi_cut(min_pmi=0.3), pmi_cut(min_pmi=0.3)
    whole, stopped, goes_on = Recorder(), Recorder(), Recorder()
    expected.fit(whole, corpus)  # type: ignore[arg-type]
    assert not whole.saved  # it took no time

    def stop(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(lexicon_method, "SAVE_FROM_SECONDS", 0.0)
        patch.setattr(Joiner, "count_words", stop)
        with pytest.raises(Interrupted):
            pmi_cut(min_pmi=0.3).fit(stopped, corpus)  # type: ignore[arg-type]
    goes_on.resume = stopped.saved[-1]
    monkeypatch.setattr(lexicon_method.Counting, "merged", stop)
    again.fit(goes_on, corpus)  # type: ignore[arg-type]
    assert again.lexicon().words == expected.lexicon().words
    np.testing.assert_array_equal(again.lexicon().counts, expected.lexicon().counts)


def test_the_sample_begins_where_pieces_are_long_enough(tmp_path: Path) -> None:
    lines = ["abc"] * 40_000 + sentences(6, lines=3000)
    corpus = corpus_of(tmp_path / "t.txt", lines)
    method = pmi_cut(choose_on_characters=1000)
    method.fit(Recorder(), corpus)  # type: ignore[arg-type]
    assert len(set(method.lexicon().words) & set(WORDS)) >= 9


def test_a_sample_of_one_character_is_made_large_enough(tmp_path: Path) -> None:
    method = pmi_cut(choose_on_characters=1)
    method.fit(Recorder(), corpus_of(tmp_path / "t.txt", sentences(6)))  # type: ignore[arg-type]
    assert len(set(method.lexicon().words) & set(WORDS)) >= 9


@pytest.mark.parametrize("characters", [1, 1000, 10**6])
def test_an_order_is_too_large_for_the_whole_text_not_for_a_sample(
    tmp_path: Path, characters: int
) -> None:
    corpus = corpus_of(tmp_path / "t.txt", [*(["ab"] * 20_000), "abc", "ab"])
    with pytest.raises(UserError, match=r"model\.order=4 is larger.*text \(3 characters"):
        pmi_cut(choose_on_characters=characters).fit(Recorder(), corpus)  # type: ignore[arg-type]


def test_the_sample_is_the_beginning_of_a_text_that_begins_with_words(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "t.txt", sentences(7, lines=3000))
    np.testing.assert_array_equal(
        sample_of(corpus, 70_000, 4).chunk.code_points, corpus.read(70_000).code_points
    )
