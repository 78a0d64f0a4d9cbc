"""The default method: penalised unigram EM, refined by a Bayesian word model.

1. `unigram_mdl` gives a first segmentation; two-part description length chooses its exponent b.
   That length charges a word seen once twice, when it is spelled and when it is used, so the choice
   errs towards short words. A small committee goes on: b, and exponents up to a step below it.
2. Every member: blocked Gibbs sampling (Mochihashi et al. 2009) of the word model of `bigram.py`
   from there. The spelling model, learned from the words found so far, lets words occur that were
   seen only once. A word still pays `penalty * len^b`.
3. A cut is made where more than half of the members' last samples have one.

Whether words depend on the word before is decided by description length too. Where letters are
spelled, a bigram explains frequent phrases without gluing them, and the two-part length of the
text falls. Where a character is a morpheme, as in Chinese, a bigram explains a word of two
characters just as well as two words of one, cuts it, and the two-part length rises: then words are
independent.

The sampler starts near a good optimum and is not run to equilibrium: from far away it would end in
longer units, which this model, like every pure entropy criterion, likes better than words.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent import description_length
from kexue_cli.tasks.minent.bigram import Settings, count_bigrams, empty_bigrams, sample_sweep
from kexue_cli.tasks.minent.bigram_lexicon import (
    BigramLexicon,
    learn_lexicon,
    spelled_along,
    word_spelling,
)
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.lattice import Lattice, consensus
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.scores import words_of
from kexue_cli.tasks.minent.segment import usable_workers
from kexue_cli.tasks.minent.unigram_mdl import (
    EXPONENT_STEPS,
    find_trial,
    learn_lattice,
    try_exponent,
)

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

CHECKPOINT_SWEEPS = 5
MEMBER_STEP = EXPONENT_STEPS[-1] / 2
DECIDING_SWEEPS = 10  # of the bigram, then its two-part length is compared with that of EM


class Best:
    """model=best.

    exponent         of the length penalty; None: chosen by two-part description length
    iterations       of EM
    members          of the committee, odd; their exponents lie half a step apart
    dependence       `bigram`, `none` (words are independent), or `auto`: by description length
    sweeps, average  Gibbs sweeps, and how many of the last ones vote
    penalty          share of the length penalty that stays in the Bayesian model
    discount, strength, word_discount, word_strength   of the two Pitman-Yor levels
    max_length       longest word in characters; None: by the alphabet
    max_characters   learn from about so many characters at the start of the text
    """

    def __init__(
        self,
        exponent: float | None,
        iterations: int,
        members: int,
        dependence: str,
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
        self.members, self.dependence = members, dependence
        self.sweeps, self.average, self.penalty = sweeps, average, penalty
        self.levels = (discount, strength, word_discount, word_strength)
        self.max_length, self.max_characters = max_length, max_characters
        self._model: BigramLexicon
        self._ends: NDArray[np.bool_] | None = None

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Learn; the log has the exponents tried, then the sweeps. Saves what it has for resume."""
        lattice = learn_lattice(ctx, corpus, self.max_length, self.max_characters)
        saved = (ctx.resume or {}).get("fit")
        committee = self._begin(ctx, lattice) if saved is None else Committee.from_state(saved)
        if committee.dependent is None:
            self._decide(ctx, lattice, committee)
        self._ends = self._sample(ctx, lattice, committee, self.sweeps, committee)
        self._model = learn_lexicon(lattice, self._ends, self._settings(lattice, committee, 0))
        ctx.save_checkpoint({"task": self.state_dict(), "fit": None})

    def _begin(self, ctx: Context, lattice: Lattice) -> Committee:
        """The members' exponents and their segmentations by EM."""
        trial = find_trial(ctx, lattice, self.given_exponent, self.iterations)
        exponents, ends = [trial.exponent], [trial.ends]
        for k in range(1, self.members):
            exponents.append(round(max(trial.exponent - k * MEMBER_STEP, 0.0), 4))
            ends.append(try_exponent(lattice, exponents[-1], self.iterations).ends)
            ctx.stop.raise_if_requested()
        dependent = {"bigram": True, "none": False, "auto": None}[self.dependence]
        committee = Committee(exponents, np.stack(ends), dependent, 0)
        ctx.save_checkpoint({"task": {}, "fit": committee.state()})
        return committee

    def _decide(self, ctx: Context, lattice: Lattice, committee: Committee) -> None:
        """Try the bigram on the first member; keep it unless the two-part length has grown."""
        before = two_part_nats(lattice, committee.ends[0])
        trial = Committee(committee.exponents[:1], committee.ends[:1].copy(), True, 0)
        ends = self._sample(ctx, lattice, trial, DECIDING_SWEEPS, committee)
        after = two_part_nats(lattice, ends)
        committee.dependent = after <= before
        ctx.console.say(
            f"words {'depend on the one before' if committee.dependent else 'are independent'}: "
            f"two-part length {before / np.log(2):.4f} bits per character without, "
            f"{after / np.log(2):.4f} with a bigram"
        )
        ctx.save_checkpoint({"task": {}, "fit": committee.state()})

    def _settings(self, lattice: Lattice, committee: Committee, member: int) -> Settings:
        lengths = np.arange(lattice.ids.shape[1] + 1, dtype=np.float64)
        weight = np.exp(-self.penalty * lengths ** committee.exponents[member])
        return Settings(*self.levels, weight, bool(committee.dependent))

    def _sample(
        self,
        ctx: Context,
        lattice: Lattice,
        committee: Committee,
        sweeps: int,
        saved: Committee,
    ) -> NDArray[np.bool_]:
        """Run the sweeps that are left, saving `saved`; the cuts that most of the last have."""
        sweeps = min(sweeps, ctx.cfg.limit.steps or sweeps)
        average = max(1, self.average * sweeps // self.sweeps)
        members = range(len(committee.exponents))
        settings = [self._settings(lattice, committee, m) for m in members]
        pool = ThreadPoolExecutor(min(len(members), usable_workers()))
        with pool, ctx.console.progress(sweeps, "sampling", "sweeps") as bar, ctx.stop.deferred():
            bar.advance(committee.sweep)
            for sweep in range(committee.sweep, sweeps):
                seeds = [ctx.seeds.integer(f"sweep {sweep} {m}") % 2**32 for m in members]
                jobs = [
                    pool.submit(one_sweep, lattice, committee.ends[m], settings[m], seeds[m])
                    for m in members
                ]
                nats = -sum(job.result() for job in jobs) / committee.ends.size
                if sweep >= sweeps - average:
                    committee.votes += committee.ends.sum(axis=0, dtype=np.int32)
                committee.sweep = sweep + 1
                words = committee.ends.sum() / len(members)
                ctx.log(step=sweep, split="sampling", nats_per_character=nats, words=words)
                bar.advance(1)
                if ctx.stop.requested or sweep % CHECKPOINT_SWEEPS == 0:
                    ctx.save_checkpoint({"task": {}, "fit": saved.state()})
                ctx.stop.raise_if_requested()
        samples, max_length = average * len(members), lattice.ids.shape[1]
        return np.asarray(consensus(committee.votes, lattice.starts, samples, max_length))

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


class Committee:
    """Where the members stand.

    exponents  of their length penalties, the chosen one first
    ends       (members, characters) bool, their present word ends; changed in place
    dependent  whether words depend on the one before; None: not decided yet
    sweep      sweeps made;  votes (characters,) int32: samples that have a cut there
    """

    def __init__(
        self,
        exponents: list[float],
        ends: NDArray[np.bool_],
        dependent: bool | None,
        sweep: int,
        votes: NDArray[np.int32] | None = None,
    ) -> None:
        self.exponents, self.ends, self.dependent, self.sweep = exponents, ends, dependent, sweep
        self.votes = np.zeros(ends.shape[1], np.int32) if votes is None else votes

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "exponents": list(self.exponents),
            "ends": torch.from_numpy(self.ends.copy()),
            "dependent": self.dependent,
            "sweep": self.sweep,
            "votes": torch.from_numpy(self.votes.copy()),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> Committee:
        """From `state`."""
        return Committee(
            [float(b) for b in state["exponents"]],
            state["ends"].numpy().copy(),
            state["dependent"],
            int(state["sweep"]),
            state["votes"].numpy().copy(),
        )


def one_sweep(lattice: Lattice, ends: NDArray[np.bool_], settings: Settings, seed: int) -> float:
    """Sample every piece once, in random order; changes `ends` and returns the log weight.

    All counts are made anew from `ends`, so a run can go on from any sweep.
    """
    bigrams = empty_bigrams(len(lattice.lengths), 2 * len(ends) if settings.dependent else 0)
    count_bigrams(lattice.ids, lattice.starts, ends, bigrams, settings.dependent)
    spelling = word_spelling(lattice, ends, lattice.ids.shape[1])
    spelled = spelled_along(spelling, lattice.symbols)
    order = np.random.default_rng(seed).permutation(len(lattice.starts) - 1)
    return float(
        sample_sweep(order, lattice.ids, lattice.starts, ends, bigrams, spelled, settings, seed)
    )


def two_part_nats(lattice: Lattice, ends: NDArray[np.bool_]) -> float:
    """Two-part length of a segmentation, nats per character; words seen once count too."""
    text = lattice.alphabet[lattice.symbols]
    counts: dict[str, int] = {}
    for word in words_of(text, ends):
        counts[word] = counts.get(word, 0) + 1
    return description_length.of_words(counts).two_part_nats_per_character
