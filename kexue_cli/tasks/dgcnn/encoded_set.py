"""Questions as models take them: ids of a vocabulary laid over one or more stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.encoding import RawQuestion, TextSettings, WordIndex, encode
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.records import Question
from kexue_cli.tasks.dgcnn.store import Store
from kexue_cli.tasks.dgcnn.vocabulary import N_CODE_POINTS, UNKNOWN, Vocabulary


@dataclass(frozen=True)
class EncodedPassage:
    """One passage.

    Attributes:
        chars: (length,) uint32 ids of characters, 1 unknown.
        words: (length,) int32 id of the word that each character belongs to, 0 for an unknown one.
        begins: (length,) uint8, 1 where a word begins.
        tags: (length,) uint8 part of speech, see `tags.Tagger`.
        features: (length, 8) uint8, 255 = 1.0: match, co-occurrence, Jaccard, edit distance of the
            word, then of the character.
        spans: (k, 2) int32 first and last character of every occurrence of the answer.
        annotated: (k,) bool, whether it is the occurrence that the file marks.
    """

    chars: NDArray[np.uint32]
    words: NDArray[np.int32]
    begins: NDArray[np.uint8]
    tags: NDArray[np.uint8]
    features: NDArray[np.uint8]
    spans: NDArray[np.int32]
    annotated: NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedQuestion:
    """A question, arrays as in `EncodedPassage`, and its passages, which may be none."""

    chars: NDArray[np.uint32]
    words: NDArray[np.int32]
    begins: NDArray[np.uint8]
    tags: NDArray[np.uint8]
    passages: list[EncodedPassage]


@dataclass(frozen=True)
class Lookup:
    """From code points and word numbers to ids.

    Attributes:
        of_code: id of each code point as written.
        of_word: id of each word number.
    """

    of_code: NDArray[np.uint32]
    of_word: NDArray[np.int32]

    def question(self, raw: RawQuestion) -> EncodedQuestion:
        """Ids of a question and its passages."""
        chars, words = self.of_code[raw.codes], self.of_word[raw.words]
        bounds = np.concatenate([[0], np.cumsum(raw.lengths)])
        passages = []
        for row in range(1, len(raw.lengths)):
            part, spans = slice(bounds[row], bounds[row + 1]), raw.spans[row]
            passages.append(
                EncodedPassage(
                    chars[part],
                    words[part],
                    raw.begins[part],
                    raw.tags[part],
                    raw.features[part],
                    spans[:, :2],
                    spans[:, 2] > 0,
                )
            )
        first = slice(0, bounds[1])
        return EncodedQuestion(
            chars[first], words[first], raw.begins[first], raw.tags[first], passages
        )


def make_lookup(
    present: NDArray[np.uint32],
    numbered_words: Sequence[str],
    normalise: Normaliser,
    vocabulary: Vocabulary,
    word_ids: dict[str, int],
) -> Lookup:
    """The lookup for texts that hold the code points `present` and the words given by number."""
    of_code = np.full(N_CODE_POINTS, UNKNOWN, np.uint32)
    as_text = present.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    of_code[present] = vocabulary.encode(normalise(as_text))
    of_word = np.array([word_ids.get(word, 0) for word in numbered_words], np.int32)
    return Lookup(of_code, of_word)


def ids_of(words: Sequence[str], normalise: Normaliser) -> dict[str, int]:
    """Word i has the id i + 1, also in its levelled form unless that is a word itself."""
    ids = {word: i + 1 for i, word in enumerate(words)}
    for word, number in list(ids.items()):
        ids.setdefault(normalise(word), number)
    return ids


class EncodedSet:
    """Questions out of one or more stores, in the order given, read when asked for.

    Attributes:
        weights: (questions,) how often each is to be drawn in relation to the others.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Store, NDArray[np.int64], float]],
        normalise: Normaliser,
        vocabulary: Vocabulary,
        words: Sequence[str],
    ) -> None:
        """Take rows of stores, each with its weight; word i of `words` has the id i + 1."""
        word_ids = ids_of(words, normalise)
        self._stores = [store for store, _, _ in parts]
        self._lookups = [
            make_lookup(store.code_counts()[0], store.words, normalise, vocabulary, word_ids)
            for store in self._stores
        ]
        sizes = [len(rows) for _, rows, _ in parts]
        self._part = np.repeat(np.arange(len(parts)), sizes)
        self._row = np.concatenate([rows for _, rows, _ in parts] or [np.zeros(0, np.int64)])
        self.weights = np.repeat([weight for _, _, weight in parts], sizes).astype(np.float64)

    def __len__(self) -> int:
        """Number of questions."""
        return len(self._row)

    def question(self, i: int, only: int | None = None) -> EncodedQuestion:
        """Question `i` with all its passages, or with passage number `only`."""
        part = self._part[i]
        return self._lookups[part].question(self._stores[part].raw(int(self._row[i]), only))

    def record(self, i: int) -> Question:
        """Its texts, ids and answers."""
        return self._stores[self._part[i]].record(int(self._row[i]))

    def n_passages(self) -> NDArray[np.int64]:
        """Number of passages of each question, (questions,)."""
        counts = [store.n_passages() for store in self._stores]
        found = [counts[p][r] for p, r in zip(self._part, self._row, strict=True)]
        return np.array(found, np.int64)


def encode_one(
    question: Question, settings: TextSettings, vocabulary: Vocabulary, words: Sequence[str]
) -> EncodedQuestion:
    """A question that is in no store."""
    index = WordIndex()
    raw = encode(question, settings, index)
    word_ids = ids_of(words, settings.normalise)
    present = np.unique(raw.codes)
    return make_lookup(present, list(index), settings.normalise, vocabulary, word_ids).question(raw)
