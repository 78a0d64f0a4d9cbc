"""Parts of passages: within the limit, with the answer where there is room for it."""

from __future__ import annotations

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.crops import Crop, crop
from kexue_cli.tasks.dgcnn.encoded_set import EncodedPassage, EncodedQuestion
from kexue_cli.tasks.dgcnn.examples import Example, Level, example, join


def made(n: int, spans: list[list[int]], level: Level = Level.characters) -> Example:
    words = np.arange(n, dtype=np.int32) // 2 + 1
    begins = (np.arange(n) % 2 == 0).astype(np.uint8)
    passage = EncodedPassage(
        np.arange(2, n + 2, dtype=np.uint32),
        words,
        begins,
        np.arange(n, dtype=np.uint8),
        np.full((n, 8), 255, np.uint8),
        np.array(spans, np.int32).reshape(-1, 2),
        np.zeros(len(spans), np.bool_),
    )
    ids = np.arange(2, 6, dtype=np.uint32)
    question = EncodedQuestion(ids, words[:4], begins[:4], np.zeros(4, np.uint8), [passage])
    return example(question, passage, level)


@pytest.mark.parametrize("rule", list(Crop))
@pytest.mark.parametrize("n", [3, 100, 600])
def test_spans_stay_on_their_tokens(rule: Crop, n: int) -> None:
    rng = np.random.default_rng(0)
    whole = made(n, [[1, 2], [n - 2, n - 1]])
    for _ in range(40):
        part = crop(whole, 128, rule, rng)
        assert 0 < len(part.passage) <= 128
        for first, last in part.spans:
            ids = part.passage.ids[first : last + 1]
            assert ids.tolist() in ([3, 4], [n, n + 1])


def test_pieces_around_answers_mostly_hold_one() -> None:
    rng = np.random.default_rng(0)
    whole = made(900, [[500, 503]])
    held = [len(crop(whole, 128, Crop.answer, rng).spans) for _ in range(400)]
    assert 0.8 < np.mean(held) < 0.95


def test_half_of_the_post_s_pieces_begin_at_the_beginning() -> None:
    rng = np.random.default_rng(0)
    whole = made(600, [])
    pieces = [crop(whole, 256, Crop.post, rng).passage for _ in range(400)]
    assert 0.4 < np.mean([p.first[0] == 0 and len(p) == 256 for p in pieces]) < 0.6
    assert min(map(len, pieces)) >= 128


def test_spans_of_words_hold_the_characters_answer() -> None:
    whole = made(10, [[3, 4], [6, 7]], Level.words)
    assert whole.spans.tolist() == [[1, 2], [3, 3]]
    assert whole.passage.first[3], whole.passage.last[3] == (6, 7)
    assert whole.passage.features[:, 4:].min() == 1


def test_joined_passages_keep_their_answers() -> None:
    first, second = made(5, [[1, 2]]), made(7, [[0, 0], [6, 6]])
    both = join(first, second)
    assert both.passage.ids.tolist() == [*range(2, 7), *range(2, 9)]
    assert both.passage.features.shape == (12, 8)
    assert both.spans.tolist() == [[1, 2], [5, 5], [11, 11]]
    assert both.question is first.question
