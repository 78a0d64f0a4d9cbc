"""Spans out of scores, and the vote over passages, as the original has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.extraction import candidates
from kexue_cli.tasks.dgcnn.voting import vote


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


def test_a_score_of_exactly_the_threshold_is_not_above_it() -> None:
    at = np.array([np.float32(0.1)])
    above = np.nextafter(at, np.float32(1))
    assert candidates("a", at, above) == {}
    assert candidates("a", above, at) == {}
    assert candidates("a", above, above) == {"a": pytest.approx(0.01)}
