"""The learned bigram model: words, their bigrams, how words are spelled; it segments new text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.tasks.minent.bigram import Bigrams, Settings, Spelled, best_cut
from kexue_cli.tasks.minent.lattice import Lattice
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.segment import WordTrie, find_slot, in_parallel, numba
from kexue_cli.tasks.minent.spelling import Spelling, learn_spelling
from kexue_cli.tasks.minent.unigram_mdl import flat_places

SPELLING_FIELDS = ("keys", "counts", "character", "followed", "variety", "length")


@dataclass
class BigramLexicon:
    """Everything that segmentation of new text needs.

    words          and their counts
    pairs          (bigrams,) int64: v << 32 | w by number in `words`; len(words) is a piece's end
    pair_counts    (bigrams,) int32
    alphabet       (symbols,) uint32 code points, ascending; symbol number len(alphabet): any other
    """

    words: Lexicon
    pairs: NDArray[np.int64]
    pair_counts: NDArray[np.int32]
    alphabet: NDArray[np.uint32]
    spelling: Spelling
    settings: Settings

    def __post_init__(self) -> None:
        self._trie: WordTrie | None = None
        self._bigrams: Bigrams

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Word ends (characters,) of the most probable segmentation of every piece."""
        if self._trie is None:
            self._trie = WordTrie.of(self.words.words, self.words.log_probabilities())
            self._bigrams = self._count_table()
        trie = self._trie

        def job(text: NDArray[np.uint32], inner: NDArray[np.int64]) -> NDArray[np.bool_]:
            ids = trie.matches(text, inner, len(self.spelling.length) - 1)
            spelled = spelled_along(self.spelling, self._symbols(text))
            return np.asarray(best_cut(ids, inner, self._bigrams, spelled, self.settings))

        return in_parallel(job, code_points, starts, trie.workers)

    def _symbols(self, text: NDArray[np.uint32]) -> NDArray[np.int32]:
        place = np.minimum(np.searchsorted(self.alphabet, text), len(self.alphabet) - 1)
        return np.where(self.alphabet[place] == text, place, len(self.alphabet)).astype(np.int32)

    def _count_table(self) -> Bigrams:
        """The counts in the form the compiled code takes."""
        size = len(self.words) + 1
        v, w = self.pairs >> 32, self.pairs & 0xFFFFFFFF
        keys = np.full(1 << int(np.ceil(np.log2(2 * len(self.pairs) + 16))), -1, np.int64)
        values = np.zeros(len(keys), np.int32)
        _fill(keys, values, self.pairs, self.pair_counts)
        before = np.bincount(w, minlength=size).astype(np.int32)
        return Bigrams(
            keys,
            values,
            np.bincount(v, self.pair_counts, size).astype(np.int32),
            np.bincount(v, minlength=size).astype(np.int32),
            before,
            np.array([len(self.pairs), np.count_nonzero(before)], np.int64),
        )

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings."""
        return {
            "words": self.words.words,
            "counts": torch.from_numpy(self.words.counts),
            "pairs": torch.from_numpy(self.pairs),
            "pair_counts": torch.from_numpy(self.pair_counts),
            "alphabet": torch.from_numpy(self.alphabet.astype(np.int64)),
            "spelling": {f: torch.from_numpy(getattr(self.spelling, f)) for f in SPELLING_FIELDS},
            "levels": [float(value) for value in self.settings[:4]],
            "length_weight": torch.from_numpy(self.settings.length_weight),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> BigramLexicon:
        """From `state_dict`."""
        return BigramLexicon(
            Lexicon(list(state["words"]), state["counts"].numpy()),
            state["pairs"].numpy(),
            state["pair_counts"].numpy(),
            state["alphabet"].numpy().astype(np.uint32),
            Spelling(*(state["spelling"][field].numpy() for field in SPELLING_FIELDS)),
            _settings(state["levels"], state["length_weight"].numpy()),
        )


def _settings(levels: list[float], length_weight: NDArray[np.float64]) -> Settings:
    discount, strength, word_discount, word_strength = levels
    return Settings(discount, strength, word_discount, word_strength, length_weight)


@numba.njit(cache=True, nogil=True)
def _fill(keys: Any, values: Any, pairs: Any, counts: Any) -> None:
    for i in range(pairs.size):
        slot = find_slot(keys, pairs[i])
        keys[slot] = pairs[i]
        values[slot] = counts[i]


def spelled_along(spelling: Spelling, symbols: NDArray[np.int32]) -> Spelled:
    """Spelling factors at every character of a text (characters,)."""
    step = np.ones(len(symbols))
    wide = symbols.astype(np.int64)
    step[:-1] = spelling.pair(wide[:-1], wide[1:])
    return Spelled(spelling.heads()[symbols], step, spelling.tails()[symbols], spelling.length)


def word_spelling(lattice: Lattice, ends: NDArray[np.bool_], max_length: int) -> Spelling:
    """The spelling model of the distinct words of a segmentation (characters,)."""
    first, lengths, ids = _tokens(lattice, ends)
    _, one = np.unique(ids, return_index=True)
    one = np.union1d(one[ids[one] >= 0], np.flatnonzero(ids < 0))
    symbols = lattice.symbols[flat_places(first[one], lengths[one])]
    return learn_spelling(symbols, lengths[one], len(lattice.alphabet) + 1, max_length)


def _tokens(
    lattice: Lattice, ends: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Begin, length and candidate number (-1: none) of every word of a segmentation."""
    last = np.flatnonzero(ends)
    first = np.concatenate(([0], last[:-1] + 1))
    reach = lattice.ids.shape[1] - 1  # a vote over samples can leave a longer word
    ids = lattice.ids[first, np.minimum(last - first, reach)]
    return first, last - first + 1, np.where(last - first <= reach, ids, -1)


def learn_lexicon(lattice: Lattice, ends: NDArray[np.bool_], settings: Settings) -> BigramLexicon:
    """Words and bigrams of a segmentation (characters,) of the lattice's text."""
    first, lengths, ids = _tokens(lattice, ends)
    number: dict[str, int] = {}
    used, inverse = np.unique(ids, return_inverse=True)
    by_used = np.array([number.setdefault(lattice.spell(u), len(number)) for u in used if u >= 0])
    tokens = np.append(np.full(int(used[0] < 0), -1), by_used)[inverse].astype(np.int64)
    for t in np.flatnonzero(ids < 0):
        place = slice(int(first[t]), int(first[t] + lengths[t]))
        word = "".join(chr(lattice.alphabet[s]) for s in lattice.symbols[place])
        tokens[t] = number.setdefault(word, len(number))
    counts = np.bincount(tokens)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    names = list(number)
    pairs, pair_counts = _pairs(rank[tokens], first, lattice.starts, len(names))
    return BigramLexicon(
        Lexicon([names[i] for i in order], counts[order].astype(np.int64)),
        pairs,
        pair_counts.astype(np.int32),
        lattice.alphabet,
        word_spelling(lattice, ends, lattice.ids.shape[1]),
        settings,
    )


def _pairs(
    tokens: NDArray[np.int64], first: NDArray[np.int64], starts: NDArray[np.int64], mark: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct bigrams and their counts, with `mark` before and after every piece."""
    begins = np.searchsorted(first, starts[:-1])
    words = np.append(np.insert(tokens, begins, mark), mark)
    return np.unique(words[:-1] << 32 | words[1:], return_counts=True)
