"""The default method: penalised unigram EM, refined by a committee of Bayesian word models.

1. `unigram_mdl` gives a first segmentation; two-part description length chooses its exponent b.
   That length charges a word seen once twice, when it is spelled and when it is used, so the choice
   errs towards short words.
2. Each member of a small committee goes on from EM with an exponent of its own: blocked Gibbs
   sampling (Mochihashi et al. 2009) of the word model of `bigram.py`. The spelling model, learned
   from the words found so far, lets words occur that were seen only once. A word still pays
   `penalty * len^b`.
3. The members' last samples vote on every cut. A tagger that has learned from the cuts of other
   parts of the text adds its opinion (`tagger.py`), and a cut is made where the odds are for it.

Whether words depend on the word before is decided by description length too. Where letters are
spelled, a bigram explains frequent phrases without gluing them, and the two-part length of the
text falls. Where a character is a morpheme, as in Chinese, a bigram explains a word of two
characters just as well as two words of one, and the two-part length rises. Then members of both
kinds vote, for their mistakes differ: to independent words, kept short by the whole penalty, and
to bigrams.

The sampler starts near a good optimum and is not run to equilibrium: from far away it would end in
longer units, which this model, like every pure entropy criterion, likes better than words.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent import description_length
from kexue_cli.tasks.minent.bigram import Settings, count_bigrams, empty_bigrams, sample_sweep
from kexue_cli.tasks.minent.bigram_lexicon import (
    BigramLexicon,
    learn_lexicon,
    spelled_along,
    tokens_of,
    word_spelling,
)
from kexue_cli.tasks.minent.committee import (
    Committee,
    Member,
    exponent_of_stretches,
    plan,
    stretch,
)
from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.lattice import Lattice, consensus
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.tagger import second_opinion
from kexue_cli.tasks.minent.unigram_mdl import (
    Trial,
    find_trial,
    flat_places,
    learn_lattice,
    spelled,
    try_exponent,
)

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

CHECKPOINT_SWEEPS = 5
DECIDING_SWEEPS = 10  # of the bigram, then its two-part length is compared with that of EM
DECIDING_CHARACTERS = 1_000_000  # it is tried on so many at the start of the text
MOST_SWEEPS, FEWEST_SWEEPS = 60, 15
SAMPLED_CHARACTERS = 60_000_000  # by each member in all its sweeps, where that is enough sweeps
VOTING = 2 / 3  # of the sweeps
MEMBER_BYTES = 100  # of memory for each letter of the text while a member samples
MOST_MEMBERS = 5  # unless told otherwise


class Best:
    """model=best.

    exponent         of the length penalty; None: chosen by two-part description length
    iterations       of EM
    members          of the committee; None: 3 bigrams, or 5 of both kinds
    dependence       `bigram`, `none` (words are independent), `both`, or `auto`: bigram or both, by
                     description length
    sweeps, average  Gibbs sweeps, and how many of the last ones vote; None: by the text's size
    penalty, independent_penalty   share of the length penalty that stays in the Bayesian model,
                     with a bigram and with independent words
    tagger           weight of the tagger's log-odds beside those of the vote; 0: the vote alone
    discount, strength, word_discount, word_strength   of the two Pitman-Yor levels
    max_length       longest word in characters; None: by the alphabet
    max_characters   learn from about so many characters at the start of the text
    """

    def __init__(
        self,
        exponent: float | None,
        iterations: int,
        members: int | None,
        dependence: str,
        sweeps: int | None,
        average: int | None,
        penalty: float,
        independent_penalty: float,
        tagger: float,
        discount: float,
        strength: float,
        word_discount: float,
        word_strength: float,
        max_length: int | None,
        max_characters: int | None,
    ) -> None:
        self.given_exponent, self.iterations = exponent, iterations
        self.members, self.dependence = members, dependence
        self.sweeps, self.average = sweeps, average
        self.penalties = {True: penalty, False: independent_penalty}
        self.tagger = tagger
        self.levels = (discount, strength, word_discount, word_strength)
        self.max_length, self.max_characters = max_length, max_characters
        self._model: BigramLexicon
        self._ends: NDArray[np.bool_] | None = None

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Learn; the log has the exponents tried, then the sweeps. Saves what it has for resume."""
        further = MEMBER_BYTES * min(self.members or MOST_MEMBERS, available_cores())
        lattice = learn_lattice(ctx, corpus, self.max_length, self.max_characters, further)
        saved = (ctx.resume or {}).get("fit")
        committee = self._begin(ctx, lattice) if saved is None else Committee.from_state(saved)
        votes, samples = self._sample(ctx, lattice, committee, *self._effort(ctx, lattice))
        self._ends = self._agreed(ctx, lattice, votes, samples)
        settings = self._settings(lattice, committee.speaker())
        self._model = learn_lexicon(lattice, self._ends, settings)

    def _begin(self, ctx: Context, lattice: Lattice) -> Committee:
        """The members and their segmentations by EM."""
        trial = find_trial(ctx, lattice, self.given_exponent, self.iterations)
        ctx.save_checkpoint(
            {"task": {}, "fit": None}
        )  # an interrupted run can be resumed from here on
        dependence, exponent = self.dependence, trial.exponent
        if dependence == "auto":
            dependence = self._decide(ctx, lattice, trial)
        if dependence != "bigram" and self.given_exponent is None:
            exponent = exponent_of_stretches(lattice, self.iterations)
            ctx.console.say(f"length penalty exponent of stretches of the text: {exponent:g}")
        members, ends = plan(dependence, exponent, self.members), []
        for member in members:
            same = member.exponent == trial.exponent
            again = trial if same else try_exponent(lattice, member.exponent, self.iterations)
            ends.append(again.ends)
            ctx.stop.raise_if_requested()
        committee = Committee(members, np.stack(ends))
        ctx.save_checkpoint({"task": {}, "fit": committee.state()})
        return committee

    def _decide(self, ctx: Context, lattice: Lattice, trial: Trial) -> str:
        """Try the bigram; keep it alone unless the two-part length has grown."""
        if len(lattice.symbols) > DECIDING_CHARACTERS:
            lattice = stretch(lattice, 0, DECIDING_CHARACTERS)
            trial = try_exponent(lattice, trial.exponent, self.iterations)
        before = two_part_nats(lattice, trial.ends)
        alone = Committee([Member(trial.exponent, True)], trial.ends[None].copy())
        sweeps = min(DECIDING_SWEEPS, ctx.cfg.limit.steps or DECIDING_SWEEPS)
        average = max(1, round(sweeps * VOTING))
        votes, samples = self._sample(ctx, lattice, alone, sweeps, average, saving=False)
        ends = cut_by(2.0 * votes - samples, lattice)
        after = two_part_nats(lattice, ends)
        dependence = "bigram" if after <= before else "both"
        meaning = {"bigram": "on the one before", "both": "on the one before in some members"}
        ctx.console.say(
            f"words depend {meaning[dependence]}: two-part length {before / np.log(2):.4f} bits "
            f"per character without, {after / np.log(2):.4f} with a bigram"
        )
        return dependence

    def _effort(self, ctx: Context, lattice: Lattice) -> tuple[int, int]:
        """Sweeps, and how many of the last ones vote."""
        enough = SAMPLED_CHARACTERS // len(lattice.symbols)
        sweeps = self.sweeps or min(max(enough, FEWEST_SWEEPS), MOST_SWEEPS)
        average = min(self.average or max(1, round(sweeps * VOTING)), sweeps)
        run = min(sweeps, ctx.cfg.limit.steps or sweeps)
        return run, max(1, average * run // sweeps)

    def _settings(self, lattice: Lattice, member: Member) -> Settings:
        lengths = np.arange(lattice.ids.shape[1] + 1, dtype=np.float64)
        weight = np.exp(-self.penalties[member.dependent] * lengths**member.exponent)
        return Settings(*self.levels, weight, member.dependent)

    def _sample(
        self,
        ctx: Context,
        lattice: Lattice,
        committee: Committee,
        sweeps: int,
        average: int,
        saving: bool = True,
    ) -> tuple[NDArray[np.int32], int]:
        """Run the sweeps that are left; how many samples of the last `average` sweeps have a cut
        after each character, and of how many samples.
        """
        members = range(len(committee.members))
        settings = [self._settings(lattice, member) for member in committee.members]
        pool = ThreadPoolExecutor(min(len(members), available_cores()))
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
                if saving and (ctx.stop.requested or sweep % CHECKPOINT_SWEEPS == 0):
                    ctx.save_checkpoint({"task": {}, "fit": committee.state()})
                ctx.stop.raise_if_requested()
        return committee.votes, average * len(members)

    def _agreed(
        self, ctx: Context, lattice: Lattice, votes: NDArray[np.int32], samples: int
    ) -> NDArray[np.bool_]:
        """Word ends (characters,) by the votes and the tagger."""
        vote = cut_by(2.0 * votes - samples, lattice)
        if self.tagger == 0:
            return vote
        odds = second_opinion(
            lattice, votes / samples, self.tagger, ctx.seeds.integer("tagger"),
            ctx.stop.raise_if_requested,
        )  # fmt: skip
        ends = cut_by(odds, lattice)
        changed = int((ends != vote).sum())
        ctx.console.say(
            f"the tagger's opinion changed {changed:,} of {int(vote.sum()):,} word ends"
        )
        return ends

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


def cut_by(gains: NDArray[np.floating[Any]], lattice: Lattice) -> NDArray[np.bool_]:
    """Word ends (characters,) where a cut gains something, words no longer than any candidate."""
    return np.asarray(consensus(gains, lattice.starts, lattice.ids.shape[1]))


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
    first, lengths, ids = tokens_of(lattice, ends)
    once = ids < 0
    used, counts = np.unique(ids[~once], return_counts=True)
    places = flat_places(first[once], lengths[once])
    letters = spelled(lattice, used)
    letters += np.bincount(lattice.symbols[places], minlength=len(letters))
    return description_length.of_counts(
        np.concatenate((counts, np.ones(int(once.sum()), np.int64))),
        np.concatenate((lattice.lengths[used], lengths[once])),
        letters,
    ).two_part_nats_per_character
