"""Fast segmentation with a lexicon: a hashed trie and Viterbi, for streams of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.splitting import Chunk, concatenate, split_at
from kexue_cli.tasks.minent.word_trie import (
    FIRST,
    NONE,
    ROOT,
    WORD,
    Trie,
    build_trie,
    follow,
    numba,
)

UNKNOWN_COST = 5.0  # nats by which an unknown character is dearer than the dearest word
SAFE_TAIL = 256  # characters: cuts further than this from an open end no longer change
PARALLEL_CHARACTERS = 1 << 18

Cut = Callable[[NDArray[np.uint32], NDArray[np.int64]], NDArray[np.bool_]]


@numba.njit(cache=True, nogil=True)
def _viterbi(text: Any, starts: Any, trie: Any, scores: Any, unknown: float) -> Any:
    """Word ends (characters,) bool of the best segmentation; scores (words,)."""
    longest = 0
    for p in range(starts.size - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    best = np.empty(longest + 1)
    last = np.empty(longest + 1, np.int32)
    ends = np.zeros(text.size, np.bool_)
    for p in range(starts.size - 1):
        begin, size = starts[p], starts[p + 1] - starts[p]
        best[: size + 1] = -np.inf
        best[0] = 0.0
        for i in range(size):
            alone = best[i] + unknown
            if alone > best[i + 1]:
                best[i + 1] = alone
                last[i + 1] = 1
            node = np.int64(ROOT)
            for j in range(i, size):
                node = follow(trie.nodes, node, trie.numbers[text[begin + j]])
                if node == NONE:
                    break
                w = trie.nodes[node, WORD]
                if w >= 0 and best[i] + scores[w] > best[j + 1]:
                    best[j + 1] = best[i] + scores[w]
                    last[j + 1] = j + 1 - i
                if trie.nodes[node, FIRST] == NONE:
                    break
        j = size
        while j > 0:
            ends[begin + j - 1] = True
            j -= last[j]
    return ends


@dataclass(frozen=True)
class WordTrie:
    """Words with scores (log weights), ready to segment.

    trie     of the words
    scores   (words,) float64
    unknown  score of a character that is no word
    """

    trie: Trie
    scores: NDArray[np.float64]
    unknown: float
    workers: int = 1

    @staticmethod
    def of(words: list[str], scores: NDArray[np.float64], workers: int | None = None) -> WordTrie:
        """Build from words and their scores (words,)."""
        unknown = float(scores.min(initial=0.0)) - UNKNOWN_COST
        return WordTrie(build_trie(words), scores, unknown, workers or available_cores())

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Word ends (characters,) of the best segmentation of every piece."""

        def job(text: NDArray[np.uint32], inner: NDArray[np.int64]) -> NDArray[np.bool_]:
            return np.asarray(_viterbi(text, inner, self.trie, self.scores, self.unknown))

        return in_parallel(job, code_points, starts, self.workers)


def in_parallel(
    job: Cut, code_points: NDArray[np.uint32], starts: NDArray[np.int64], workers: int
) -> NDArray[np.bool_]:
    """Apply a compiled `job` (it frees the interpreter lock) to blocks of whole pieces."""
    size = len(code_points)
    if workers == 1 or size < PARALLEL_CHARACTERS:
        return job(code_points, starts)
    edges = np.searchsorted(starts, np.linspace(0, size, 4 * workers + 1))
    edges = np.unique(np.append(edges, len(starts) - 1))
    spans = list(pairwise(edges))
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(
            lambda span: job(
                code_points[starts[span[0]] : starts[span[1]]],
                starts[span[0] : span[1] + 1] - starts[span[0]],
            ),
            spans,
        )
        return np.concatenate(list(parts))


def cut_chunk(chunk: Chunk, cut: Cut) -> NDArray[np.bool_]:
    """Word ends (characters,) of a chunk: those of `cut` in free pieces, the end of every other."""
    return spread_ends(chunk, cut(*chunk.segmentable()))


def spread_ends(chunk: Chunk, free_ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Word ends (characters,) of the whole chunk from those of its free pieces (letters,)."""
    ends = np.zeros(len(chunk.code_points), np.bool_)
    ends[chunk.inside()] = free_ends
    if chunk.uncut is not None:
        ends &= ~chunk.uncut
    ends[chunk.starts[1:] - 1] = True
    return ends


def cut_corpus(corpus: Corpus, cut: Cut) -> Iterator[tuple[Chunk, NDArray[np.bool_]]]:
    """Segment a stream chunk by chunk; a piece that crosses a chunk border is cut as one.

    What is near the open end of a chunk waits for the next one: words there could still change.
    """
    held: Chunk | None = None
    for chunk in corpus.chunks():
        if held is not None:
            before, after = held, chunk
            if chunk.continues:
                yield_now, rest = _settled(before, cut)
                if yield_now is not None:
                    yield yield_now
                after = concatenate([rest, chunk])
            else:
                yield before, cut_chunk(before, cut)
            held = after
        else:
            held = chunk
    if held is not None:
        yield held, cut_chunk(held, cut)


def _settled(chunk: Chunk, cut: Cut) -> tuple[tuple[Chunk, NDArray[np.bool_]] | None, Chunk]:
    """Split a chunk whose last piece goes on: the segmented part that is sure, and the rest."""
    ends = cut_chunk(chunk, cut)
    limit = max(len(ends) - SAFE_TAIL, int(chunk.starts[-2]))
    sure = np.flatnonzero(ends[:limit])
    if not len(sure):
        return None, chunk
    border = int(sure[-1]) + 1
    first, rest = split_at(chunk, border)
    return (first, ends[:border]), rest
