"""Unigram EM over all repeated substrings; a length penalty whose exponent code length chooses.

A segmentation into words w has weight prod p(w) exp(-len(w)^b) (Liang & Klein 2009, "Online EM for
unsupervised models", NAACL, there with b given). In the post's terms the cost of a word is its
information -ln p(w) plus len(w)^b: without the second term the entropy alone would swallow whole
sentences. The exponent b is the one whose segmentation has the smallest two-part description
length; no gold is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.tasks.minent import description_length
from kexue_cli.tasks.minent.data import Corpus, nothing_to_search
from kexue_cli.tasks.minent.description_length import DescriptionLength
from kexue_cli.tasks.minent.lattice import (
    Lattice,
    best_segmentation,
    build_lattice,
    expected_counts,
)
from kexue_cli.tasks.minent.learning_text import text_to_learn
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.segment import WordTrie

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

EM_BYTES = 80  # of each letter, beside its row of the lattice
SMALLEST = 1e-300  # weight of a candidate that EM gave up; single symbols keep more
SYMBOL_FLOOR = 1e-9
EXPONENT_START, EXPONENT_RANGE = 1.6, (0.8, 3.2)
EXPONENT_STEPS = (0.2, 0.1, 0.05)


def fit_unigram(
    lattice: Lattice,
    exponent: float,
    iterations: int,
    min_count: int = 2,
    watch: Callable[[int, float], None] = lambda iteration, log_likelihood: None,
) -> NDArray[np.float64]:
    """EM from equal probabilities; returns log weights ln p(w) - len^b, (candidates,).

    Candidates seen less than `min_count` times are left out, single symbols excepted.
    """
    penalty = -(lattice.lengths.astype(np.float64) ** exponent)
    allowed = (lattice.counts >= min_count) | (lattice.lengths == 1)
    probability = allowed / allowed.sum()
    single = np.flatnonzero(lattice.lengths == 1)
    factor = np.exp(penalty)
    for iteration in range(iterations):
        weights = probability * factor
        weights[single] = np.maximum(weights[single], SYMBOL_FLOOR * factor[single])
        expected = np.zeros(len(weights))
        watch(iteration, expected_counts(lattice.ids, lattice.starts, weights, expected))
        probability = expected / expected.sum()
    scores = np.log(np.maximum(probability, SMALLEST)) + penalty
    scores[single] = np.maximum(scores[single], np.log(SYMBOL_FLOOR) + penalty[single])
    return scores


def lattice_length(lattice: Lattice, ends: NDArray[np.bool_]) -> DescriptionLength:
    """Two-part length of a segmentation of the lattice's text."""
    used, counts = np.unique(lattice.words(ends), return_counts=True)
    return description_length.of_counts(counts, lattice.lengths[used], spelled(lattice, used))


def spelled(lattice: Lattice, used: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each symbol occurs in the candidates `used`, (alphabet,)."""
    places = flat_places(lattice.first[used], lattice.lengths[used])
    return np.bincount(lattice.symbols[places], minlength=len(lattice.alphabet))


def flat_places(first: NDArray[np.int64], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions first, first + 1, … first + length - 1 of every word, one after the other."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(first - offsets, lengths) + np.arange(int(lengths.sum()))


@dataclass
class Trial:
    """One exponent and what came of it."""

    exponent: float
    scores: NDArray[np.float64]
    ends: NDArray[np.bool_]
    length: DescriptionLength


def try_exponent(lattice: Lattice, exponent: float, iterations: int) -> Trial:
    """EM and Viterbi with one exponent."""
    scores = fit_unigram(lattice, exponent, iterations)
    ends = best_segmentation(lattice.ids, lattice.starts, scores)
    return Trial(exponent, scores, ends, lattice_length(lattice, ends))


def choose_exponent(
    lattice: Lattice, iterations: int, watch: Callable[[Trial], None] = lambda trial: None
) -> Trial:
    """The exponent with the smallest two-part length, to 0.05, by descent with shrinking steps."""
    tried: dict[float, float] = {}
    best: Trial | None = None
    centre = EXPONENT_START
    for step in EXPONENT_STEPS:
        while True:
            low, high = EXPONENT_RANGE
            around = [round(centre + k * step, 4) for k in (0, -1, 1)]
            for exponent in around:
                if exponent in tried or not low <= exponent <= high:
                    continue
                trial = try_exponent(lattice, exponent, iterations)
                watch(trial)
                tried[exponent] = trial.length.two_part_nats_per_character
                if best is None or tried[exponent] < tried[best.exponent]:
                    best = trial
            assert best is not None
            if best.exponent == centre:
                break
            centre = best.exponent
    assert best is not None
    return best


def default_max_length(corpus: Corpus) -> int:
    """Longest word considered, in characters: 8 for Han text, 14 for other scripts."""
    return 8 if corpus.splitting.alphabet.name == "han" else 14


def learn_lattice(
    ctx: Context,
    corpus: Corpus,
    max_length: int | None,
    max_characters: int | None,
    further_bytes: int = 0,
) -> Lattice:
    """The lattice of the text to learn from; a letter takes `further_bytes` besides those of EM.

    Raises UserError where there is nothing to cut, ConfigError where memory does not suffice.
    """
    longest = max_length or default_max_length(corpus)
    letter_bytes = 4 * longest + EM_BYTES + further_bytes
    advice = ", or a smaller model.max_length"
    chunk = text_to_learn(corpus, max_characters, letter_bytes, advice=advice)
    text, starts = chunk.segmentable()
    if not len(text):
        raise nothing_to_search(corpus)
    lattice = build_lattice(text, starts, longest, 2)
    ctx.console.say(f"{len(text):,} characters, {len(lattice.lengths):,} word candidates")
    if max_characters is not None and len(chunk.code_points) >= max_characters:
        ctx.console.say(
            "words are learned from that part of the text (model.max_characters); all of it is "
            "segmented"
        )
    return lattice


class UnigramMdl:
    """model=unigram_mdl.

    exponent         of the length penalty; None: chosen by two-part description length
    iterations       of EM
    max_length       longest word in characters; None: by the alphabet
    max_characters   learn from about so many characters at the start of the text
    """

    def __init__(
        self,
        exponent: float | None,
        iterations: int,
        max_length: int | None,
        max_characters: int | None,
    ) -> None:
        self.exponent, self.iterations = exponent, iterations
        self.max_length, self.max_characters = max_length, max_characters
        self._words: Lexicon
        self._scores: NDArray[np.float64]
        self._ends: NDArray[np.bool_] | None = None
        self._trie: WordTrie | None = None

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Learn; logs one line per exponent tried (step = trial)."""
        lattice = learn_lattice(ctx, corpus, self.max_length, self.max_characters)
        trial = find_trial(ctx, lattice, self.exponent, self.iterations)
        self._ends = trial.ends
        used, counts = np.unique(lattice.words(trial.ends), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        used, counts = used[order], counts[order]
        self._words = Lexicon([lattice.spell(w) for w in used], counts.astype(np.int64))
        self._scores = trial.scores[used]

    def lexicon(self) -> Lexicon:
        """The words of the best segmentation."""
        return self._words

    def training_ends(self) -> NDArray[np.bool_] | None:
        """Viterbi segmentation of the text learned from."""
        return self._ends

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Viterbi segmentation with the learned words."""
        if self._trie is None:
            self._trie = WordTrie.of(self._words.words, self._scores)
        return self._trie.cut(code_points, starts)

    def state_dict(self) -> dict[str, Any]:
        """Words, counts and scores."""
        return {
            "words": self._words.words,
            "counts": torch.from_numpy(self._words.counts),
            "scores": torch.from_numpy(self._scores),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take words, counts and scores."""
        self._words = Lexicon(list(state["words"]), state["counts"].numpy())
        self._scores = state["scores"].numpy()
        self._trie = None


def find_trial(ctx: Context, lattice: Lattice, exponent: float | None, iterations: int) -> Trial:
    """The trial with the given or the chosen exponent; logged and said."""
    number = 0

    def watch(trial: Trial) -> None:
        nonlocal number
        ctx.log(
            step=number,
            exponent=trial.exponent,
            entropy_per_character_nats=trial.length.nats_per_character,
            two_part_nats_per_character=trial.length.two_part_nats_per_character,
            vocabulary=trial.length.types,
        )
        number += 1
        ctx.stop.raise_if_requested()

    if exponent is not None:
        trial = try_exponent(lattice, exponent, iterations)
        watch(trial)
    else:
        trial = choose_exponent(lattice, iterations, watch)
    chosen = "given" if exponent is not None else "chosen by two-part description length"
    ctx.console.say(
        f"length penalty exponent {trial.exponent:g} ({chosen}), {trial.length.types:,} words, "
        f"{trial.length.two_part_nats_per_character / np.log(2):.4f} bits per character"
    )
    return trial
