"""Spans out of scores, and the vote over passages, as the original has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.answering import Found, sharing_a_softmax
from kexue_cli.tasks.dgcnn.extraction import candidates, trimmed
from kexue_cli.tasks.dgcnn.voting import vote, with_mentions


def test_extraction_and_vote_give_what_the_original_gives(data_dir: Path) -> None:
    path = data_dir / "keras_reference" / "dgcnn" / "extract_answer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert len(content["cases"]) == 20
    for case in content["cases"]:
        found = vote(
            candidates(
                text,
                np.array(start, np.float32),
                np.array(end, np.float32),
                content["threshold"],
                content["maxlen"],
            )
            for text, start, end in zip(case["passages"], case["start"], case["end"], strict=True)
        )
        assert (found[0].answer if found else None) == case["answer"]
        scores = {candidate.answer: candidate.score for candidate in found}
        assert scores.keys() == case["scores"].keys()
        for answer, score in case["scores"].items():
            assert scores[answer] == pytest.approx(score, rel=1e-6)


def test_vote_of_the_post() -> None:
    first, second = vote([{"A": 0.7}] + [{"B": 0.2}] * 4)
    assert (first.answer, round(first.score, 5)) == ("A", 0.28824)
    assert (second.answer, round(second.score, 5)) == ("B", 0.08889)
    assert second.support == ((1, 0.2), (2, 0.2), (3, 0.2), (4, 0.2))


def test_the_best_of_many_candidates_are_those_that_plain_counting_finds() -> None:
    rng = np.random.default_rng(0)
    passages = [
        {f"a{i}": float(score) for i, score in zip(rng.permutation(300), scores, strict=False)}
        for scores in rng.random((6, 200))
    ]
    oracle = {}
    for answer in {answer for one in passages for answer in one}:
        scores = [one[answer] for one in passages if answer in one]
        oracle[answer] = sum(s * s for s in scores) / (1 + sum(scores))
    wanted = sorted((a for a in oracle if a[-1] != "7"), key=lambda a: -oracle[a])[:5]
    found = vote(passages, 5, lambda answer: answer[-1] != "7")
    assert [voted.answer for voted in found] == wanted
    for voted in found:
        assert voted.score == pytest.approx(oracle[voted.answer], rel=1e-12)
        assert dict(voted.support) == {
            k: c[voted.answer] for k, c in enumerate(passages) if voted.answer in c
        }


def test_low_powers_heed_how_many_passages_propose_an_answer() -> None:
    passages = [{"A": 0.81, "B": 0.25}, {"B": 0.25}, {"B": 0.25}]
    first, second = vote(passages, power=0.5)
    assert (first.answer, first.score) == ("B", pytest.approx(1.5))
    assert (second.answer, second.score) == ("A", pytest.approx(0.9))
    assert vote(passages)[0].answer == "A"


def test_sums_are_those_of_the_scores() -> None:
    voted = vote([{"A": 0.5, "B": 0.3}, {"B": 0.4}], power=1.0)
    assert [(v.answer, pytest.approx(v.score)) for v in voted] == [("B", 0.7), ("A", 0.5)]


def test_a_passage_that_holds_an_answer_seconds_it() -> None:
    found = with_mentions([{"A": 0.4, "B": 0.2}, {"B": 0.6}, {}], ["A B", "A B", "A"], 0.1)
    assert found == [
        {"A": 0.4, "B": 0.2},
        {"A": pytest.approx(0.04), "B": 0.6},
        {"A": pytest.approx(0.04)},
    ]


def test_a_score_of_exactly_the_threshold_is_not_above_it() -> None:
    at = np.array([np.float32(0.1)])
    above = np.nextafter(at, np.float32(1))
    assert candidates("a", at, above) == {}
    assert candidates("a", above, at) == {}
    assert candidates("a", above, above) == {"a": pytest.approx(0.01)}


@pytest.mark.parametrize(
    ("found", "voted_for"),
    [("《红楼梦》，", "红楼梦"), ("5%。", "5%"), ("U.S.A.", "U.S.A"), ("——", ""), ("C#", "C#")],
)
def test_punctuation_around_an_answer_is_not_voted_for(found: str, voted_for: str) -> None:
    assert trimmed(found) == voted_for


def test_windows_share_a_softmax_in_proportion_to_what_they_sum_to() -> None:
    heat = np.array([0.5, 0.5], np.float32)
    windows = [Found({"甲": 0.8}, heat, heat, 0, whole=w) for w in (0.0, np.log(3.0), np.log(4.0))]
    shared = sharing_a_softmax([windows[:1], windows[1:]])
    found = [window.candidates["甲"] for windows in shared for window in windows]
    assert found == pytest.approx([0.8 / 8, 0.8 * 3 / 8, 0.8 * 4 / 8])
    np.testing.assert_allclose(shared[1][0].start, 3 / 8 * heat)
