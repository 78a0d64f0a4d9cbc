"""Text that does not fit into memory is refused while it is read, with what would fit."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent import learning_text, merge
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.learning_text import text_to_learn
from kexue_cli.tasks.minent.splitting import Splitting

ANY = Splitting(Alphabet.named("any"))


class Endless(Source):
    """Lines without end; says how many characters were read."""

    read = 0

    def blocks(self, max_lines: int | None = None) -> Iterator[str]:
        for _ in itertools.count():
            Endless.read += 1_000_000
            yield ("ab" * 49 + "!\n") * 10_000


@pytest.fixture(autouse=True)
def _none_read() -> None:
    Endless.read = 0


def free(monkeypatch: pytest.MonkeyPatch, mib: int | None) -> None:
    monkeypatch.setattr(learning_text, "available_mib", lambda: mib)


@pytest.mark.parametrize(
    ("model", "changes", "advice"),
    [
        ("merge", {}, ""),
        ("unigram_mdl", {}, ", or a smaller model.max_length"),
        ("best", {"sweeps": 1, "dependence": "bigram"}, ", or a smaller model.max_length"),
    ],
)
def test_what_does_not_fit_is_refused_and_what_is_advised_fits(
    run_method: tuple[Callable[..., Any], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    changes: dict[str, Any],
    advice: str,
) -> None:
    fit, _ = run_method
    rng = np.random.default_rng(0)
    text = "".join("".join(rng.choice(list("abc"), 60)) + "\n" for _ in range(2000))
    free(monkeypatch, 4)
    with pytest.raises(ConfigError, match=r"^model\.max_characters: learning from") as refused:
        fit(model, text, max_characters=None, **changes)
    said = re.search(
        r"4 are free; set model\.max_characters=(\d+) or lower(.*)$", str(refused.value)
    )
    assert said is not None
    assert said[2] == advice
    ends = fit(model, text, max_characters=int(said[1]), **changes)
    assert 3000 < len(ends) < 40_000


@pytest.mark.parametrize(("alphabet", "most"), [("any", 10_000_000), ("han", 25_000_000)])
def test_no_more_is_read_than_fits(
    monkeypatch: pytest.MonkeyPatch, alphabet: str, most: int
) -> None:
    free(monkeypatch, 500)
    corpus = Corpus(Endless(()), Splitting(Alphabet.named(alphabet)))
    with pytest.raises(ConfigError, match=r"model\.max_characters: learning from the first"):
        text_to_learn(corpus, None, 200)
    assert 0 < Endless.read < most


def test_the_numbers_of_places_bound_the_text_where_memory_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free(monkeypatch, None)
    corpus = Corpus(Endless(()), ANY)
    with pytest.raises(ConfigError, match=r"at most 5,000,000 .* model\.max_characters=4500000 "):
        text_to_learn(corpus, None, 200, 5_000_000)
    assert len(text_to_learn(corpus, 4_500_000, 200, 5_000_000).code_points) < 5_000_000


def test_merging_numbers_more_than_places(
    run_method: tuple[Callable[..., Any], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["ab" * 30] * 10
    places = np.concatenate(([0], np.cumsum([60] * 10)))
    codes = np.array([ord(c) for line in lines for c in line], np.uint32)
    merger = merge.Merger(codes, places, with_lexicon=False)
    assert list(merger.steps())
    assert len(codes) < merger.state.size[merge.NODES] <= 3 * len(codes)
    fit, _ = run_method
    monkeypatch.setattr(merge, "MOST_PLACES", 500)
    with pytest.raises(ConfigError, match="at most 500 characters can be learned from"):
        fit("merge", "\n".join(lines))


def test_where_free_memory_is_unknown_all_is_learned_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    free(monkeypatch, None)
    path = tmp_path / "text.txt"
    path.write_text("abc\n" * 1000)
    assert len(text_to_learn(Corpus(Source((path,)), ANY), None, 10**9).code_points) == 3000
