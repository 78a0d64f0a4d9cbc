"""Equality with the author's programs, whose output on one text is kept in tests/golden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.config import TextData
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.pmi_cut import PmiCut
from kexue_cli.tasks.minent.word_discovery import WordDiscovery
from tests.tasks.minent.counting import SETTINGS, Recorder, corpus_of

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "minent_author_lexicons.json").read_text("utf-8")
)
CASES = {
    program: [case for case in GOLDEN["cases"] if case["program"] == program]
    for program in ("word-discovery", "nlp-zero")
}


def discovery(**settings: Any) -> WordDiscovery:
    given = {"order": 4, "min_pmi": [2, 4, 6], "min_count": 2, "max_words": None, "rule": "kenlm"}
    return WordDiscovery(**{**given, **SETTINGS, **settings})


@pytest.mark.parametrize("case", CASES["word-discovery"], ids=lambda c: f"{c['rule']}{c['order']}")
def test_lexicon_equals_that_of_the_authors_program(tmp_path: Path, case: dict[str, Any]) -> None:
    method = discovery(**{k: case[k] for k in ("order", "min_pmi", "min_count", "rule")})
    method.fit(Recorder(), corpus_of(tmp_path / "t.txt", GOLDEN["text"]))  # type: ignore[arg-type]
    words = method.lexicon()
    pairs = [list(pair) for pair in zip(words.words, words.counts.tolist(), strict=True)]
    assert pairs[: len(case["lexicon"])] == case["lexicon"]
    assert (len(pairs), int(words.counts.sum())) == (case["words"], case["total"])


@pytest.mark.parametrize("case", CASES["nlp-zero"], ids=lambda c: f"pmi{c['min_pmi']}")
def test_pairs_and_entropic_redundancy_equal_nlp_zero(tmp_path: Path, case: dict[str, Any]) -> None:
    method = PmiCut(
        order=2, min_pmi=case["min_pmi"], min_count=1, min_proba=case["min_proba"], rare="drop",
        redundancy="entropy", nats_per_joint=1.0, grid=[], choose_on_characters=1, **SETTINGS,
    )  # fmt: skip
    method.fit(Recorder(), corpus_of(tmp_path / "t.txt", GOLDEN["text"]))  # type: ignore[arg-type]
    words = method.lexicon()
    found = dict(zip(words.words, words.counts.tolist(), strict=True))
    assert {w: found.get(w) for w, _ in case["lexicon"]} == dict(case["lexicon"])
    assert (len(found), sum(found.values())) == (case["words"], case["total"])


def test_only_the_most_frequent_words_are_kept(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "t.txt", GOLDEN["text"])
    whole, cut = discovery(), discovery(max_words=50)
    for method in (whole, cut):
        method.fit(Recorder(), corpus)  # type: ignore[arg-type]
    assert cut.lexicon().words == whole.lexicon().words[:50]


def test_finding_nothing_is_said_with_the_reason(tmp_path: Path) -> None:
    ctx = Recorder()
    discovery(min_count=1000).fit(ctx, corpus_of(tmp_path / "t.txt", ["abcd"] * 9))  # type: ignore[arg-type]
    assert "seen model.min_count=1000 times" in ctx.warnings[0]


def test_a_text_without_letters_to_search_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("👍🏽🎉❤️ 👨‍👩‍👧\n" * 30, encoding="utf-8")
    corpus = open_corpus(TextData(path=str(tmp_path / "t.txt")))
    for rule in ("kenlm", "open"):
        with pytest.raises(UserError, match="no character in which words are searched"):
            discovery(rule=rule).fit(Recorder(), corpus)  # type: ignore[arg-type]
