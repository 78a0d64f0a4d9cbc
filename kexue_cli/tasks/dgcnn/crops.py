"""Parts of long passages to train on."""

from __future__ import annotations

from enum import Enum

import numpy as np

from kexue_cli.tasks.dgcnn.examples import Example, Ints


class Crop(Enum):
    """Which part of a passage longer than the limit is trained on."""

    post = "post"  # kexue.fm 6906: half the time a random piece, else the beginning
    answer = "answer"  # mostly a piece that holds an answer


BLIND = 0.15  # share of pieces drawn without a look at the answer, with Crop.answer


def crop(example: Example, limit: int, rule: Crop, rng: np.random.Generator) -> Example:
    """At most `limit` tokens of the passage; spans that it cuts are gone."""
    n = len(example.passage)
    if rule is Crop.post:
        begin, end = post_piece(n, limit, rng)
    elif n <= limit:
        return example
    else:
        begin, end = answer_piece(n, limit, example.spans, rng)
    spans = example.spans
    inside = (spans[:, 0] >= begin) & (spans[:, 1] < end)
    return Example(example.question, example.passage.part(begin, end), spans[inside] - begin)


def post_piece(n: int, limit: int, rng: np.random.Generator) -> tuple[int, int]:
    """Of more than limit / 2 tokens half the time a piece of limit / 2 to limit; else the first."""
    if n > limit // 2 and rng.random() > 0.5:
        length = int(rng.integers(limit // 2, min(limit, n) + 1))
        begin = int(rng.integers(0, n - length + 1))
        return begin, begin + length
    return 0, min(n, limit)


def answer_piece(n: int, limit: int, spans: Ints, rng: np.random.Generator) -> tuple[int, int]:
    """A piece of `limit` tokens around one of the spans, wherever in it that lies."""
    lowest, highest = 0, n - limit
    if len(spans) and rng.random() > BLIND:
        first, last = spans[rng.integers(len(spans))]
        if last - first < limit:
            lowest, highest = max(0, int(last) - limit + 1), min(n - limit, int(first))
    begin = int(rng.integers(lowest, highest + 1))
    return begin, begin + limit
