"""Parts of speech of jieba's tagger, a small number at every character.

What is asked for, a person, a place, a time, a number, is hard to learn from a few thousand
questions, whose answers are mostly names met nowhere else. The tagger's dictionary and its hidden
Markov model of unknown words know what many of them are (as in DrQA, Chen et al. 2017).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.words import UNPAIRED, first_installed, import_engine

# Numbered from 1 in this order; a flag has the number of the longest of them that it begins with.
FLAGS = (
    *("nr", "ns", "nt", "nz", "n", "t", "m", "q", "s", "f", "v", "vn", "a", "b", "d", "p", "c"),
    *("r", "u", "y", "l", "i", "j", "eng", "x"),
)
N_TAGS = 2 * (1 + len(FLAGS))  # 0: unknown; each with and without the beginning of a word

TaggedWords = Iterable[tuple[str, str]]


class Tagger:
    """Tags texts by rjieba, jieba, auto (the first of them that is installed) or none."""

    def __init__(self, engine: str = "auto") -> None:
        self.engine = first_installed() if engine == "auto" else engine
        self._tag: Callable[[str], TaggedWords] | None = None

    def tags(self, text: str) -> NDArray[np.uint8]:
        """Twice the number of its word's flag, 1 more at the word's first character: (length,)."""
        if self.engine == "none" or not text:
            return np.zeros(len(text), np.uint8)
        if self._tag is None:
            self._tag = tagging_function(self.engine)
        words = list(self._tag(UNPAIRED.sub("\ufffd", text)))
        lengths = np.array([len(word) for word, _ in words])
        tags = np.repeat([2 * number_of(flag) for _, flag in words], lengths)
        tags[np.cumsum(lengths) - lengths] += 1
        return tags.astype(np.uint8)


def tagging_function(engine: str) -> Callable[[str], TaggedWords]:
    """From a text to its words with their flags."""
    if engine == "rjieba":
        found: Callable[[str], TaggedWords] = import_engine("rjieba").tag
        return found
    import_engine("jieba").setLogLevel("ERROR")
    posseg = import_engine("jieba.posseg")
    return lambda text: ((pair.word, pair.flag) for pair in posseg.cut(text))


@functools.cache  # asked for every word
def number_of(flag: str) -> int:
    """The number of a flag such as nrt; 0 for one that begins like none of `FLAGS`."""
    known = [known for known in FLAGS if flag.startswith(known)]
    return 1 + FLAGS.index(max(known, key=len)) if known else 0
