"""The samplers of `best` that vote together: what each of them assumes, where each stands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent.lattice import Lattice, build_lattice
from kexue_cli.tasks.minent.unigram_mdl import EXPONENT_STEPS, Trial, choose_exponent

MEMBER_STEP = EXPONENT_STEPS[-1] / 2
STRETCH_CHARACTERS = 400_000
STRETCHES = 5
BOTH = (  # whether words depend on the one before; exponent less the chosen one
    (False, -0.1), (True, 0.0), (False, 0.2), (False, -0.4), (True, -0.2),
    (False, 0.05), (True, 0.1), (False, -0.25), (True, -0.1),
)  # fmt: skip


class Member(NamedTuple):
    """The exponent of its length penalty; whether a word depends on the one before."""

    exponent: float
    dependent: bool


def plan(dependence: str, exponent: float, members: int | None) -> list[Member]:
    """The members around an exponent.

    bigram   3 unless told otherwise; exponents up to a step below the chosen one
    none     3; exponents to both sides of it
    both     5; most of them independent, the exponents farther apart
    """
    if dependence == "bigram":
        offsets = [(True, -k * MEMBER_STEP) for k in range(members or 3)]
    elif dependence == "none":
        single = [kind for kind in BOTH if not kind[0]]
        offsets = [single[k % len(single)] for k in range(members or 3)]
    else:
        offsets = list(BOTH[: members or 5])
    return [Member(round(max(exponent + o, 0.0), 4), dependent) for dependent, o in offsets]


def exponent_of_stretches(lattice: Lattice, iterations: int) -> float:
    """The mean of what two-part length chooses on stretches of a fixed size.

    The larger a text, the more often a phrase pays for its place in the lexicon: chosen on all of
    a text, the exponent falls with its size. The words of a language do not depend on it.
    """
    size = len(lattice.symbols)
    begins = np.linspace(0, max(size - STRETCH_CHARACTERS, 0), STRETCHES).astype(np.int64)
    found = [
        exponent_between(stretch(lattice, int(begin), STRETCH_CHARACTERS), iterations)
        for begin in np.unique(begins)
    ]
    return float(np.mean(found))


def exponent_between(lattice: Lattice, iterations: int) -> float:
    """Where a parabola through the shortest two-part length and its neighbours is lowest.

    The length hardly changes between two exponents tried, and the words do: a committee with an
    exponent 0.1 beside the best one loses a point of F.
    """
    tried: dict[float, float] = {}

    def watch(trial: Trial) -> None:
        tried[round(trial.exponent, 4)] = trial.length.two_part_nats_per_character

    best, step = round(choose_exponent(lattice, iterations, watch).exponent, 4), EXPONENT_STEPS[-1]
    below, above = tried.get(round(best - step, 4)), tried.get(round(best + step, 4))
    if below is None or above is None:  # at the end of the range
        return best
    bend = below + above - 2 * tried[best]
    return best + step / 2 * (below - above) / bend if bend > 0 else best


def stretch(lattice: Lattice, begin: int, size: int) -> Lattice:
    """The lattice of `size` characters from `begin` on; pieces are cut at its edges."""
    end = min(begin + size, len(lattice.symbols))
    inside = lattice.starts[(lattice.starts > begin) & (lattice.starts < end)]
    starts = np.concatenate(([begin], inside, [end])) - begin
    symbols = lattice.symbols[begin:end].astype(np.uint32)
    return build_lattice(symbols, starts, lattice.ids.shape[1], 2)


class Committee:
    """Where the members stand.

    members    none where it is not decided yet what they are
    ends       (members, characters) bool, their present word ends; changed in place
    sweep      sweeps made;  votes (characters,) int32: samples that have a cut there
    """

    def __init__(
        self,
        members: list[Member],
        ends: NDArray[np.bool_],
        sweep: int = 0,
        votes: NDArray[np.int32] | None = None,
    ) -> None:
        self.members, self.ends, self.sweep = members, ends, sweep
        self.votes = np.zeros(ends.shape[1], np.int32) if votes is None else votes

    def speaker(self) -> Member:
        """The member whose assumptions segment new text: the first bigram, if there is one.

        It remembers the pairs of words agreed upon, mended ones too.
        """
        return next((m for m in self.members if m.dependent), self.members[0])

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "exponents": [m.exponent for m in self.members],
            "dependent": [m.dependent for m in self.members],
            "ends": torch.from_numpy(self.ends.copy()),
            "sweep": self.sweep,
            "votes": torch.from_numpy(self.votes.copy()),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> Committee:
        """From `state`; raises UserError for the state of a committee of one kind."""
        if not isinstance(state["dependent"], list):
            raise UserError(
                "the run was interrupted under an earlier version, whose members were all of one "
                "kind; it cannot go on: start it anew, without resume"
            )
        kinds = zip(state["exponents"], state["dependent"], strict=True)
        return Committee(
            [Member(float(b), bool(d)) for b, d in kinds],
            state["ends"].numpy().copy(),
            int(state["sweep"]),
            state["votes"].numpy().copy(),
        )
