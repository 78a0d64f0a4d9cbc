"""Word segmentation against gold: tokens, boundaries with and without line ends, lexicon.

A word counts where both its ends are right (as in the SIGHAN bake-offs). Line ends are known to
every method: `boundary_edges_*` counts them, `boundary_*` does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def precision_recall_f(right: int, found: int, wanted: int) -> tuple[float, float, float]:
    """Shares in [0, 1]; 0 where nothing was found or wanted."""
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def right_words(found: NDArray[np.bool_], gold: NDArray[np.bool_]) -> int:
    """Words of which both ends agree; ends are (characters,) bool, the last one set in both."""
    common = np.flatnonzero(found & gold)
    found_before, gold_before = np.cumsum(found), np.cumsum(gold)
    first = np.concatenate(([-1], common[:-1]))
    inside_found: NDArray[np.int64] = found_before[common] - np.where(
        first < 0, 0, found_before[first]
    )
    inside_gold: NDArray[np.int64] = gold_before[common] - np.where(
        first < 0, 0, gold_before[first]
    )
    return int(np.count_nonzero((inside_found == 1) & (inside_gold == 1)))


@dataclass
class Scores:
    """Sums over chunks of text; `add` them, then read `metrics`.

    Triples are right, found, wanted.
    """

    words: list[int] = field(default_factory=lambda: [0, 0, 0])
    boundaries: list[int] = field(default_factory=lambda: [0, 0, 0])
    inner: list[int] = field(default_factory=lambda: [0, 0, 0])
    found_types: set[str] = field(default_factory=set)
    gold_types: set[str] = field(default_factory=set)

    def add(
        self,
        code_points: NDArray[np.uint32],
        found: NDArray[np.bool_],
        gold: NDArray[np.bool_],
        line_ends: NDArray[np.bool_],
    ) -> None:
        """Count one chunk; all (characters,), bool but the text. A chunk ends with a word."""
        found, gold = found.copy(), gold.copy()
        found[-1:] = gold[-1:] = True
        inner = ~line_ends
        inner[-1:] = False
        _add(self.words, right_words(found, gold), found, gold)
        _add(self.boundaries, int((found & gold).sum()), found, gold)
        _add(self.inner, int((found & gold & inner).sum()), found & inner, gold & inner)
        self.found_types |= word_types(code_points, found)
        self.gold_types |= word_types(code_points, gold)

    def metrics(self) -> dict[str, float]:
        """token_, boundary_ (line ends not counted), boundary_edges_ and lexicon_ P, R, F in %."""
        common = len(self.found_types & self.gold_types)
        lexicon = [common, len(self.found_types), len(self.gold_types)]
        named = (
            ("token", self.words),
            ("boundary", self.inner),
            ("boundary_edges", self.boundaries),
            ("lexicon", lexicon),
        )
        result = {}
        for name, sums in named:
            for what, share in zip(
                ("precision", "recall", "f1"), precision_recall_f(*sums), strict=True
            ):
                result[f"{name}_{what}"] = 100 * share
        return result


def _add(sums: list[int], right: int, found: NDArray[np.bool_], gold: NDArray[np.bool_]) -> None:
    sums[0] += right
    sums[1] += int(found.sum())
    sums[2] += int(gold.sum())


def word_types(code_points: NDArray[np.uint32], ends: NDArray[np.bool_]) -> set[str]:
    """The distinct words of a segmented text."""
    return set(words_of(code_points, ends))


def words_of(code_points: NDArray[np.uint32], ends: NDArray[np.bool_]) -> list[str]:
    """The words of a segmented text, in order."""
    text = code_points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    last = np.flatnonzero(ends) + 1
    first = np.concatenate(([0], last[:-1]))
    return [text[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
