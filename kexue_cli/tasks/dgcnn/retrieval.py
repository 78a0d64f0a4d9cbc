"""Further passages for questions that come with too few, found by BM25 over character bigrams.

Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with k1 = 1.2 and b = 0.75.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.records import RETRIEVED, Passage, Question
from kexue_cli.tasks.dgcnn.vocabulary import codes

K1, B = 1.2, 0.75
SENTENCE = re.compile(r"[^。！？!?；;\n]*[。！？!?；;\n]*")


class Retriever:
    """Finds the texts that share most with a question."""

    def __init__(self, texts: Iterable[str], normalise: Normaliser) -> None:
        self.texts = list(texts)
        self.normalise = normalise
        per_text = [bigrams(normalise(text)) for text in self.texts]
        lengths = np.array([len(terms) for terms in per_text], np.int64)
        terms = np.concatenate([*per_text, np.zeros(0, np.int64)])
        self.terms, numbers = np.unique(terms, return_inverse=True)
        # One posting for each term and text: their pair as one number, and how often it occurs.
        pairs = numbers * max(len(self.texts), 1) + np.repeat(np.arange(len(lengths)), lengths)
        postings, times = np.unique(pairs, return_counts=True)
        term_of, self.text_of = np.divmod(postings, max(len(self.texts), 1))
        self.starts = np.searchsorted(term_of, np.arange(len(self.terms) + 1))
        n_texts_with = np.diff(self.starts)
        idf = np.log1p((len(self.texts) - n_texts_with + 0.5) / (n_texts_with + 0.5))
        relative = lengths[self.text_of] / max(float(lengths.mean()), 1.0) if len(lengths) else 0
        self.weights = idf[term_of] * times * (K1 + 1) / (times + K1 * (1 - B + B * relative))

    def scores(self, query: str) -> NDArray[np.float64]:
        """BM25 of every text, (texts,)."""
        scores = np.zeros(len(self.texts))
        wanted = np.unique(bigrams(self.normalise(query)))
        for term in np.flatnonzero(np.isin(self.terms, wanted, assume_unique=True)):
            part = slice(self.starts[term], self.starts[term + 1])
            scores[self.text_of[part]] += self.weights[part]
        return scores

    def best(self, query: str) -> Iterator[str]:
        """Texts that share a bigram with the query, best first, ties in their order."""
        scores = self.scores(query)
        for i in np.argsort(-scores, kind="stable"):
            if scores[i] <= 0:
                return
            yield self.texts[i]

    def fill(self, question: Question, n_passages: int) -> Question:
        """The question with retrieved passages up to `n_passages`.

        In each of them the first of the question's answers that occurs is its answer.
        """
        own = {passage.text for passage in question.passages}
        passages = list(question.passages)
        taken = {passage.id for passage in passages}
        ids = (id for id in map(f"{RETRIEVED}{{}}".format, count(len(passages))) if id not in taken)
        answers = [self.normalise(answer) for answer in question.answers]
        for text in self.best(question.text) if len(passages) < n_passages else ():
            if len(passages) >= n_passages:
                break
            if text in own:
                continue
            levelled = self.normalise(text)
            starts = [(levelled.find(answer), len(answer)) for answer in answers]
            at, length = next((found for found in starts if found[0] >= 0), (0, 0))
            passages.append(Passage(next(ids), text, text[at : at + length]))
        return replace(question, passages=tuple(passages))


def bigrams(text: str) -> NDArray[np.int64]:
    """Pairs of neighbouring characters, each as one number: (length - 1,)."""
    points = codes(text).astype(np.int64)
    return (points[:-1] << 21) | points[1:]


def pieces_of(text: str, length: int) -> Iterator[str]:
    """The text in pieces of at most `length` characters, cut after sentences where possible."""
    piece = ""
    for sentence in SENTENCE.findall(text):
        if piece and len(piece) + len(sentence) > length:
            yield piece
            piece = ""
        piece += sentence
        while len(piece) > length:
            yield piece[:length]
            piece = piece[length:]
    if piece:
        yield piece
