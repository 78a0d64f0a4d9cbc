"""Greedy merging against plain Python that recomputes every description length from the text."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, Interrupted
from kexue_cli.tasks.minent.merge import Merge, Merger
from tests.tasks.minent.counting import Recorder, corpus_of

Tokens = list[list[str]]


def merger_of(lines: list[str], **settings: Any) -> Merger:
    code_points = np.array([ord(c) for line in lines for c in line], np.uint32)
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64)
    return Merger(code_points, starts, **settings)


def joined(tokens: Tokens, a: str, b: str) -> Tokens:
    """The text with the pair merged, from the left."""
    result = []
    for line in tokens:
        new: list[str] = []
        i = 0
        while i < len(line):
            pair = line[i : i + 2] == [a, b]
            new.append(a + b if pair else line[i])
            i += 2 if pair else 1
        result.append(new)
    return result


def lengths(tokens: Tokens, lines: list[str]) -> tuple[float, float]:
    """Nats of the text's code, and of the lexicon spelled."""
    words = Counter(word for line in tokens for word in line)
    total = sum(words.values())
    data = -sum(n * math.log(n / total) for n in words.values())
    letters = Counter("".join(lines))
    marks = sum(letters.values()) + len(lines)
    end = -math.log(len(lines) / marks)
    lexicon = sum(end - sum(math.log(letters[c] / marks) for c in word) for word in words)
    return data, lexicon


def best_saving(tokens: Tokens, lines: list[str], with_lexicon: bool) -> float:
    """The largest saving of any pair that stands there twice."""
    data, lexicon = lengths(tokens, lines)
    pairs = {pair for line in tokens for pair in pairwise(line)}
    best = 0.0
    for a, b in pairs:
        after = joined(tokens, a, b)
        if sum(map(len, tokens)) - sum(map(len, after)) < 2:
            continue
        new_data, new_lexicon = lengths(after, lines)
        best = max(best, data - new_data + (lexicon - new_lexicon if with_lexicon else 0.0))
    return best


def texts() -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    words = ["the", "he", "cat", "at", "aab", "abab", "bb"]
    return {
        "words": ["".join(rng.choice(words, rng.integers(1, 6))) for _ in range(40)],
        "doubles": [
            "".join(rng.choice(list("ab"), rng.integers(1, 25), p=[0.8, 0.2])) for _ in range(20)
        ],
        "one letter": ["a" * 37, "a" * 8, "a"],
        "periodic": ["ab" * 30, "aba" * 20],
    }


@pytest.mark.parametrize("with_lexicon", [True, False])
@pytest.mark.parametrize("name", list(texts()))
def test_each_merge_is_the_best_and_saves_what_it_says(name: str, with_lexicon: bool) -> None:
    lines = texts()[name]
    merger = merger_of(lines, with_lexicon=with_lexicon)
    tokens = [list(line) for line in lines]
    for merged in merger.steps():
        for (a, b), (data_saving, net_saving) in zip(merged.pairs, merged.savings, strict=True):
            assert net_saving == pytest.approx(best_saving(tokens, lines, with_lexicon), abs=1e-8)
            before = lengths(tokens, lines)
            tokens = joined(tokens, a, b)
            after = lengths(tokens, lines)
            assert data_saving == pytest.approx(before[0] - after[0], abs=1e-8)
    assert best_saving(tokens, lines, with_lexicon) <= 1e-8
    assert merger.counts() == dict(Counter(word for line in tokens for word in line))
    ends = [k == len(word) for line in tokens for word in line for k in range(1, len(word) + 1)]
    np.testing.assert_array_equal(merger.ends(), ends)


def test_the_gain_is_that_of_equation_2_11() -> None:
    lines = texts()["words"]
    merger = merger_of(lines, with_lexicon=False)
    pair, saving = next((m.pairs[0], m.savings[0, 0]) for m in merger.steps(1))
    tokens = Counter("".join(lines))
    total = sum(tokens.values())
    both = sum(line.count("".join(pair)) for line in lines)
    assert pair[0] != pair[1]
    p_a, p_b, p = tokens[pair[0]] / total, tokens[pair[1]] / total, both / total
    f_ab = (
        p * math.log(p / (p_a * p_b))
        - (1 - p) * math.log(1 - p)
        + sum((q - p) * math.log(1 - p / q) for q in (p_a, p_b) if q > p)
    )
    assert saving == pytest.approx(total * f_ab)


def test_room_grows_without_changing_the_merges() -> None:
    rng = np.random.default_rng(1)
    letters = [chr(0x4E00 + i) for i in range(300)]
    words = ["".join(rng.choice(letters, 3)) for _ in range(700)]
    lines = ["".join(rng.choice(words, 12)) for _ in range(3000)]
    merger = merger_of(lines, with_lexicon=False, max_length=6)
    before, saved = merger.code_nats(), 0.0
    for merged in merger.steps():
        saved += merged.savings[:, 0].sum()
    assert merger.merges > 1000
    assert merger.code_nats() == pytest.approx(before - saved)
    assert max(map(len, merger.counts())) <= 6


def merge(**settings: Any) -> Merge:
    given = {
        "min_count": 2, "max_length": 20, "lexicon_cost": True, "max_merges": None,
        "max_characters": None,
    }  # fmt: skip
    return Merge(**{**given, **settings})


def context(steps: int | None = None) -> Any:
    ctx = Recorder()
    ctx.cfg = SimpleNamespace(limit=SimpleNamespace(steps=steps))  # type: ignore[attr-defined]
    return ctx


def test_entropy_per_character_falls_along_the_curve(tmp_path: Path) -> None:
    ctx, method = context(), merge(lexicon_cost=False)
    method.fit(ctx, corpus_of(tmp_path / "t.txt", texts()["words"]))
    curve = [row["entropy_per_character_nats"] for row in ctx.logged]
    assert curve[-1] < curve[0]
    ends = method.training_ends()
    assert ends is not None
    assert ends.sum() == method.lexicon().counts.sum() == ctx.logged[-1]["tokens"]


def test_merging_can_be_limited_and_stopped(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "t.txt", texts()["words"])
    ctx = context(steps=3)
    merge().fit(ctx, corpus)
    assert ctx.logged[-1]["step"] == 3
    ctx = context()
    ctx.stop.request(2)
    with pytest.raises(Interrupted):
        merge().fit(ctx, corpus)


def test_text_without_repeated_pairs_is_said_to_give_nothing(tmp_path: Path) -> None:
    ctx, method = context(), merge()
    method.fit(ctx, corpus_of(tmp_path / "t.txt", ["abcdefg"]))
    assert "no pair pays for its place" in ctx.warnings[0]
    assert sorted(method.lexicon().words) == list("abcdefg")


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.min_count: expected at least 2, found 1"):
        merge(min_count=1)
