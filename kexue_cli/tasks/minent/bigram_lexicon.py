"""The learned word model: words, their bigrams, how words are spelled; it segments new text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent.bigram import NEVER_BEFORE, Settings, Spelled
from kexue_cli.tasks.minent.lattice import Lattice
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.segment import in_parallel
from kexue_cli.tasks.minent.spelling import Spelling, learn_spelling
from kexue_cli.tasks.minent.unigram_mdl import flat_places
from kexue_cli.tasks.minent.word_tables import (
    ALONE,
    BACK,
    BEST,
    LANES,
    REACH,
    SpellingTables,
    WordTables,
    hash_table,
    pair_filter,
)
from kexue_cli.tasks.minent.word_trie import CODE_POINTS, Trie, build_trie
from kexue_cli.tasks.minent.word_viterbi import best_cut

ALL_PAIRS = 1 << 16  # of symbols, that may have a table to themselves: it stays in the cache
SPELLING_FIELDS = ("keys", "counts", "character", "followed", "variety", "length")


@dataclass
class BigramLexicon:
    """Everything that segmentation of new text needs.

    words          and their counts
    pairs          (bigrams,) int64: v << 32 | w by number in `words`; len(words) is a piece's end;
                   none where words are independent
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
        self._tables: tuple[Trie, WordTables, SpellingTables] | None = None

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Word ends (characters,) of the most probable segmentation of every piece."""
        if self._tables is None:
            trie = build_trie(self.words.words)
            self._tables = (trie, self.word_tables(), self.spelling_tables())
        tables = self._tables

        def job(text: NDArray[np.uint32], inner: NDArray[np.int64]) -> NDArray[np.bool_]:
            return np.asarray(best_cut(text, inner, *tables))

        return in_parallel(job, code_points, starts, available_cores())

    def word_tables(self) -> WordTables:
        """The probabilities of words and pairs of words, as logarithms."""
        s, mark = self.settings, len(self.words)
        v, w = self.pairs >> 32, self.pairs & 0xFFFFFFFF
        before, tokens_before, _ = self._base_counts()
        spread = tokens_before + s.word_strength
        lengths = np.fromiter(map(len, self.words.words), np.int64, mark)
        new_word = np.exp(self._log_new_word())
        alone = np.maximum(before[:mark] - s.word_discount, 0) / spread
        alone += new_word * np.exp(self._log_spelled(lengths))
        end_new = max((before[mark] - s.word_discount) / spread, NEVER_BEFORE)
        tokens = np.bincount(v, self.pair_counts, mark + 1)
        after = np.bincount(v, minlength=mark + 1)
        back = (s.discount * after + s.strength) / (tokens + s.strength)
        direct = np.maximum(self.pair_counts - s.discount, 0) / (tokens[v] + s.strength)
        values = np.log(direct + back[v] * np.append(alone, end_new)[w])
        weights = np.log(s.length_weight)[np.minimum(lengths, len(s.length_weight) - 1)]
        end, inner = np.log(back * end_new), w < mark
        end[v[~inner]] = values[~inner]
        v, w, values, pairs = (
            v[inner],
            w[inner],
            values[inner] + weights[w[inner]],
            self.pairs[inner],
        )
        table = np.full((mark + 1, 4), -np.inf)
        table[:mark, ALONE] = np.log(alone) + weights
        table[:, BACK] = np.log(back)
        np.maximum.at(table[:, BEST], w, values)
        table[:, REACH] = np.maximum(table[:, BACK], end - np.log(end_new))
        np.maximum.at(table[:, REACH], v, values - table[w, ALONE])
        end_after_new = float(np.log(end_new))
        return WordTables(table, end, end_after_new, *hash_table(pairs, values), pair_filter(pairs))

    def _base_counts(self) -> tuple[NDArray[np.int64], int, int]:
        """Counts of words (words + 1,) in the base distribution, their sum, the distinct words."""
        size = len(self.words) + 1
        if not self.settings.dependent:
            counts = np.append(self.words.counts, 0)
            return counts, int(counts.sum()), len(self.words)
        before = np.bincount(self.pairs & 0xFFFFFFFF, minlength=size)
        return before, len(self.pairs), int(np.count_nonzero(before))

    def _log_new_word(self) -> float:
        s = self.settings
        _, total, types = self._base_counts()
        return float(
            np.log((s.word_discount * types + s.word_strength) / (total + s.word_strength))
        )

    def _log_spelled(self, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log probability of the spelling of every word of the lexicon, (words,)."""
        text = "".join(self.words.words).encode("utf-32-le", "surrogatepass")
        letters = np.frombuffer(text, "<u4")
        symbols = np.searchsorted(self.alphabet, letters)
        ends = np.cumsum(lengths)
        step = np.log(self.spelling.pair(symbols[:-1], symbols[1:]))
        run = np.concatenate(([0.0], np.cumsum(step)))
        first, last = ends - lengths, ends - 1
        inside = run[last] - run[first]
        own = np.log(self.spelling.length)[np.minimum(lengths, len(self.spelling.length) - 1)]
        head, tail = np.log(self.spelling.heads()), np.log(self.spelling.tails())
        return np.asarray(head[symbols[first]] + inside + tail[symbols[last]] + own)

    def spelling_tables(self) -> SpellingTables:
        """The spelling of new words, as logarithms."""
        sp, size = self.spelling, len(self.alphabet)
        symbol = np.full(CODE_POINTS, size, np.int32)
        symbol[self.alphabet] = np.arange(size, dtype=np.int32)
        first, second = sp.keys // (sp.size + 1), sp.keys % (sp.size + 1)
        inside = (first < sp.size) & (second < sp.size)
        first, second = first[inside], second[inside]
        values = np.log(sp.pair(first, second))
        variety = sp.variety + 1e-3
        missed, character = np.log(variety / (sp.followed + variety)), np.log(sp.character)
        every = np.empty((0, 0))
        if len(missed) ** 2 <= ALL_PAIRS:
            every = missed[:, None] + character
            every[first, second] = values
        longest = len(sp.length) - 1
        length = np.full(-(-longest // LANES) * LANES, -np.inf)
        weight = sp.length * self.settings.length_weight
        length[:longest] = np.log(weight[1:]) + self._log_new_word()
        return SpellingTables(
            symbol, np.log(sp.heads()), np.log(sp.tails()), missed, character,
            *hash_table(first << 32 | second, values), every, length, longest,
        )  # fmt: skip

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
            "dependent": self.settings.dependent,
            "length_weight": torch.from_numpy(self.settings.length_weight),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> BigramLexicon:
        """From `state_dict`."""
        discount, strength, word_discount, word_strength = state["levels"]
        settings = Settings(
            discount, strength, word_discount, word_strength,
            state["length_weight"].numpy(), bool(state["dependent"]),
        )  # fmt: skip
        return BigramLexicon(
            Lexicon(list(state["words"]), state["counts"].numpy()),
            state["pairs"].numpy(),
            state["pair_counts"].numpy(),
            state["alphabet"].numpy().astype(np.uint32),
            Spelling(*(state["spelling"][field].numpy() for field in SPELLING_FIELDS)),
            settings,
        )


def spelled_along(spelling: Spelling, symbols: NDArray[np.int32]) -> Spelled:
    """Spelling factors at every character of a text (characters,)."""
    step = np.ones(len(symbols))
    wide = symbols.astype(np.int64)
    step[:-1] = spelling.pair(wide[:-1], wide[1:])
    return Spelled(spelling.heads()[symbols], step, spelling.tails()[symbols], spelling.length)


def word_spelling(lattice: Lattice, ends: NDArray[np.bool_], max_length: int) -> Spelling:
    """The spelling model of the distinct words of a segmentation (characters,)."""
    first, lengths, ids = tokens_of(lattice, ends)
    _, one = np.unique(ids, return_index=True)
    one = np.union1d(one[ids[one] >= 0], np.flatnonzero(ids < 0))
    symbols = lattice.symbols[flat_places(first[one], lengths[one])]
    return learn_spelling(symbols, lengths[one], len(lattice.alphabet) + 1, max_length)


def tokens_of(
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
    first, lengths, ids = tokens_of(lattice, ends)
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
    if not settings.dependent:
        pairs, pair_counts = pairs[:0], pair_counts[:0]
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
