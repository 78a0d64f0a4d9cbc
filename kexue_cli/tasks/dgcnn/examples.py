"""One question with one passage as a model reads them: at the level of characters or of words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.encoded_set import EncodedPassage, EncodedQuestion
from kexue_cli.tasks.dgcnn.features import mean_over_words

Ints = NDArray[np.int64]


class Level(Enum):
    """What a token is."""

    characters = "characters"
    words = "words"


@dataclass(frozen=True)
class Tokens:
    """A text as tokens.

    Attributes:
        ids: (n,) of characters; of words 1 everywhere.
        words: (n,) id of the word, 0 unknown.
        tags: (n,) part of speech, see `tags.Tagger`.
        features: (n, 8) float32 in [0, 1].
        first: (n,) first character of each token in the text.
        last: (n,) last character, inclusive.
    """

    ids: Ints
    words: Ints
    tags: Ints
    features: NDArray[np.float32]
    first: Ints
    last: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, begin: int, end: int) -> Tokens:
        """Tokens `begin` to `end`; `first` and `last` still count from the text's beginning."""
        return Tokens(
            self.ids[begin:end],
            self.words[begin:end],
            self.tags[begin:end],
            self.features[begin:end],
            self.first[begin:end],
            self.last[begin:end],
        )


@dataclass(frozen=True)
class Example:
    """A question, a passage, and (k, 2) first and last token of every correct span."""

    question: Tokens
    passage: Tokens
    spans: Ints


def join(a: Example, b: Example) -> Example:
    """The question of both with the passage of `a` and, behind it, that of `b`, to train on."""
    passage = Tokens(
        *(
            np.concatenate([getattr(a.passage, part.name), getattr(b.passage, part.name)])
            for part in fields(Tokens)
        )
    )
    return Example(a.question, passage, np.concatenate([a.spans, b.spans + len(a.passage)]))


def question_tokens(question: EncodedQuestion, level: Level) -> Tokens:
    """Tokens of the question itself; its features are 0."""
    features = np.zeros((len(question.chars), 8), np.uint8)
    return tokens_of(question, features, level)


def passage_tokens(passage: EncodedPassage, level: Level) -> Tokens:
    """Tokens of a passage."""
    return tokens_of(passage, passage.features, level)


def tokens_of(
    text: EncodedQuestion | EncodedPassage, features: NDArray[np.uint8], level: Level
) -> Tokens:
    """From arrays per character; at the level of words, character features are averaged."""
    chars, words, tags = (part.astype(np.int64) for part in (text.chars, text.words, text.tags))
    scaled: NDArray[np.float32] = (features / 255).astype(np.float32)
    position = np.arange(len(chars), dtype=np.int64)
    if level is Level.characters:
        return Tokens(chars, words, tags, scaled, position, position)
    first = np.flatnonzero(text.begins)
    return Tokens(
        np.ones(len(first), np.int64),
        words[first],
        tags[first],
        mean_over_words(scaled, text.begins),
        first,
        np.append(first[1:], len(chars))[: len(first)] - 1,
    )


def token_spans(spans: NDArray[np.int32], tokens: Tokens) -> Ints:
    """Spans of characters (k, 2) as spans of the tokens that hold their ends."""
    if not len(spans) or not len(tokens):
        return np.zeros((0, 2), np.int64)
    starts = np.searchsorted(tokens.last, spans[:, 0])
    ends = np.searchsorted(tokens.last, spans[:, 1])
    return np.unique(np.stack([starts, ends], axis=1), axis=0)


def example(question: EncodedQuestion, passage: EncodedPassage, level: Level) -> Example:
    """A question with one of its passages."""
    tokens = passage_tokens(passage, level)
    return Example(question_tokens(question, level), tokens, token_spans(passage.spans, tokens))
