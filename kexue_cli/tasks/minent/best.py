"""The default method: penalised unigram EM, refined by a Bayesian word bigram.

1. `unigram_mdl` gives a first segmentation; two-part description length chooses its exponent b.
2. Blocked Gibbs sampling (Mochihashi et al. 2009) of the bigram of `bigram.py` from there. The
   dependence on the word before explains frequent phrases without gluing them; the spelling model,
   learned from the words found so far, lets words occur that were seen only once. A word still
   pays `penalty * len^b`.
3. A cut is made where more than half of the last samples have one.

The sampler starts near a good optimum and is not run to equilibrium: from far away it would end in
longer units, which this model, like every pure entropy criterion, likes better than words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.bigram import Settings, count_bigrams, empty_bigrams, sample_sweep
from kexue_cli.tasks.minent.bigram_lexicon import (
    BigramLexicon,
    learn_lexicon,
    spelled_along,
    word_spelling,
)
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.lattice import Lattice
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.unigram_mdl import find_trial, learn_lattice

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

CHECKPOINT_SWEEPS = 5


class Best:
    """model=best.

    exponent         of the length penalty; None: chosen by two-part description length
    iterations       of EM
    sweeps, average  Gibbs sweeps, and how many of the last ones vote
    penalty          share of the length penalty that stays in the bigram model
    discount, strength, word_discount, word_strength   of the two Pitman-Yor levels
    max_length       longest word in characters; None: by the alphabet
    max_characters   learn from about so many characters at the start of the text
    """

    def __init__(
        self,
        exponent: float | None,
        iterations: int,
        sweeps: int,
        average: int,
        penalty: float,
        discount: float,
        strength: float,
        word_discount: float,
        word_strength: float,
        max_length: int | None,
        max_characters: int | None,
    ) -> None:
        self.given_exponent, self.iterations = exponent, iterations
        self.sweeps, self.average, self.penalty = sweeps, average, penalty
        self.levels = (discount, strength, word_discount, word_strength)
        self.max_length, self.max_characters = max_length, max_characters
        self._model: BigramLexicon
        self._ends: NDArray[np.bool_] | None = None

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Learn; the log has the exponents tried, then the sweeps."""
        lattice = learn_lattice(ctx, corpus, self.max_length, self.max_characters)
        saved = (ctx.resume or {}).get("fit")
        if saved is None:
            trial = find_trial(ctx, lattice, self.given_exponent, self.iterations)
            saved = _progress(trial.exponent, 0, trial.ends, np.zeros(len(trial.ends), np.int32))
            ctx.save_checkpoint({"task": {}, "fit": saved})
        settings = self._settings(float(saved["exponent"]), lattice.ids.shape[1])
        self._ends = self._sample(ctx, lattice, settings, saved)
        self._model = learn_lexicon(lattice, self._ends, settings)
        ctx.save_checkpoint({"task": self.state_dict(), "fit": None})

    def _settings(self, exponent: float, max_length: int) -> Settings:
        lengths = np.arange(max_length + 1, dtype=np.float64)
        return Settings(*self.levels, np.exp(-self.penalty * lengths**exponent))

    def _sample(
        self, ctx: Context, lattice: Lattice, settings: Settings, saved: dict[str, Any]
    ) -> NDArray[np.bool_]:
        """Run the sweeps from where `saved` stands; the cuts that most of the last ones have."""
        sweeps = min(self.sweeps, ctx.cfg.limit.steps or self.sweeps)
        average = min(self.average, sweeps)
        ends, votes = saved["ends"].numpy().copy(), saved["votes"].numpy().copy()
        with ctx.console.progress(sweeps, "sampling", "sweeps") as bar, ctx.stop.deferred():
            for sweep in range(int(saved["sweep"]), sweeps):
                seed = ctx.seeds.integer(f"sweep {sweep}") % 2**32
                log_weight = one_sweep(lattice, ends, settings, seed)
                votes += ends * (sweep >= sweeps - average)
                nats = -log_weight / len(ends)
                ctx.log(step=sweep, split="sampling", nats_per_character=nats, words=ends.sum())
                bar.advance(1)
                if ctx.stop.requested or sweep % CHECKPOINT_SWEEPS == 0:
                    saved = _progress(float(saved["exponent"]), sweep + 1, ends, votes)
                    ctx.save_checkpoint({"task": {}, "fit": saved})
                ctx.stop.raise_if_requested()
        return np.asarray(2 * votes > average)

    def lexicon(self) -> Lexicon:
        """The words of the final segmentation."""
        return self._model.words

    def training_ends(self) -> NDArray[np.bool_] | None:
        """The vote of the samples on the text learned from."""
        return self._ends

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Viterbi segmentation by the bigram; new words are possible."""
        return self._model.cut(code_points, starts)

    def state_dict(self) -> dict[str, Any]:
        """The bigram lexicon."""
        return self._model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a bigram lexicon."""
        if not state:
            raise UserError("that run has not finished learning: go on with resume=<its folder>")
        self._model = BigramLexicon.from_state(state)


def one_sweep(lattice: Lattice, ends: NDArray[np.bool_], settings: Settings, seed: int) -> float:
    """Sample every piece once, in random order; changes `ends` and returns the log weight.

    All counts are made anew from `ends`, so a run can go on from any sweep.
    """
    bigrams = empty_bigrams(len(lattice.lengths), 2 * len(ends))
    count_bigrams(lattice.ids, lattice.starts, ends, bigrams)
    spelling = word_spelling(lattice, ends, lattice.ids.shape[1])
    spelled = spelled_along(spelling, lattice.symbols)
    order = np.random.default_rng(seed).permutation(len(lattice.starts) - 1)
    return float(
        sample_sweep(order, lattice.ids, lattice.starts, ends, bigrams, spelled, settings, seed)
    )


def _progress(
    exponent: float, sweep: int, ends: NDArray[np.bool_], votes: NDArray[np.int32]
) -> dict[str, Any]:
    """What a resumed run needs: the state after `sweep` sweeps."""
    return {
        "exponent": exponent,
        "sweep": sweep,
        "ends": torch.from_numpy(ends.copy()),
        "votes": torch.from_numpy(votes.copy()),
    }
