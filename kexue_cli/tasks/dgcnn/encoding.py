"""One question and its passages as arrays, before any vocabulary: code points, words, features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.features import Floats, token_features
from kexue_cli.tasks.dgcnn.normalise import Normaliser, occurrences
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.vocabulary import codes
from kexue_cli.tasks.dgcnn.words import WordCutter, word_begins

N_FEATURES = 8  # four of words, four of characters


@dataclass(frozen=True)
class TextSettings:
    """What is done to text before anything is looked up."""

    normalise: Normaliser
    cutter: WordCutter
    tagger: Tagger

    def as_dict(self) -> dict[str, Any]:
        """The options of `cfg.data` that it was made by."""
        levelled, cutter = self.normalise, self.cutter
        return {
            "unicode": levelled.unicode,
            "lower": levelled.lower,
            "simplified": levelled.simplified,
            "segmenter": cutter.engine,
            "split_latin": cutter.split_latin,
        }


class WordIndex(dict[str, int]):
    """Numbers words from 0 in the order in which they are met."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class RawQuestion:
    """A question (row 0) and its passages (rows 1 …), one after the other.

    Attributes:
        lengths: (rows,) characters of each row.
        codes: (characters,) uint32 code points as written.
        words: (characters,) int32 number of the word in its `WordIndex`, at every character of it.
        begins: (characters,) uint8, 1 where a word begins.
        tags: (characters,) uint8 part of speech, see `Tagger`.
        features: (characters, 8) uint8, 255 = 1.0; of the question 0.
        spans: per row (k, 3) int32: first and last character, and 1 if annotated.
    """

    lengths: NDArray[np.int64]
    codes: NDArray[np.uint32]
    words: NDArray[np.int32]
    begins: NDArray[np.uint8]
    tags: NDArray[np.uint8]
    features: NDArray[np.uint8]
    spans: list[NDArray[np.int32]]


def encode(question: Question, settings: TextSettings, index: WordIndex) -> RawQuestion:
    """Arrays of `question`; words that `index` lacks are added to it."""
    rows = [question.text, *(passage.text for passage in question.passages)]
    levelled = [settings.normalise(row) for row in rows]
    cut = [settings.cutter.cut(row) for row in levelled]
    words = [np.fromiter((index[word] for word in row), np.int32, len(row)) for row in cut]
    begins = [word_begins(row) for row in cut]
    spans = [
        answer_spans(passage, text, settings.normalise)
        for passage, text in zip(question.passages, levelled[1:], strict=True)
    ]
    return RawQuestion(
        lengths=np.array([len(row) for row in rows], np.int64),
        codes=codes("".join(rows)),
        words=np.concatenate([per_character(w, b) for w, b in zip(words, begins, strict=True)]),
        begins=np.concatenate(begins),
        tags=np.concatenate([settings.tagger.tags(row) for row in levelled]),
        features=features_of(levelled, words, begins),
        spans=[np.zeros((0, 3), np.int32), *spans],
    )


def per_character(words: NDArray[np.int32], begins: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Each word's value at all of its characters."""
    return words[np.cumsum(begins, dtype=np.int64) - 1] if len(words) else words


def features_of(
    rows: Sequence[str], words: list[NDArray[np.int32]], begins: list[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """The hand features of all rows, (characters, 8); of the question, row 0, they are 0."""
    of_words = token_features(words[0], words[1:])
    letters = [codes(row) for row in rows]
    of_characters = token_features(letters[0], letters[1:])
    parts: list[Floats] = [np.zeros((len(rows[0]), N_FEATURES), np.float32)]
    for coarse, fine, begin in zip(of_words, of_characters, begins[1:], strict=True):
        spread = coarse[np.cumsum(begin, dtype=np.int64) - 1] if len(coarse) else coarse
        parts.append(np.concatenate([spread, fine], axis=1))
    return np.rint(255 * np.concatenate(parts)).astype(np.uint8)


def answer_spans(passage: Passage, levelled: str, normalise: Normaliser) -> NDArray[np.int32]:
    """Every occurrence of the passage's answer: first and last character, 1 if annotated: (k, 3).

    The annotated offset is taken for right; `checks` sees to that.
    """
    answer = normalise(passage.answer)
    starts = occurrences(levelled, answer)
    rows = [(start, start + len(answer) - 1, start == passage.answer_start) for start in starts]
    return np.array(rows, np.int32).reshape(-1, 3)
