"""Greedy merging by minimum entropy (kexue.fm 5476): join the pair that shortens the code most.

A merge of (a, b) changes the entropy per character by -F_ab / l (eq. 2.13), F_ab exact (eq. 2.11;
for a doubled symbol counted without overlap). F alone would merge on and on; a word must also pay
for its place in the lexicon, where it is spelled once in characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent.data import Corpus, nothing_to_search
from kexue_cli.tasks.minent.description_length import entropy_nats
from kexue_cli.tasks.minent.learning_text import MOST_LETTERS, text_to_learn
from kexue_cli.tasks.minent.lexicon import Lexicon
from kexue_cli.tasks.minent.lexicon_method import LexiconCutter
from kexue_cli.tasks.minent.merge_heap import FULL, PAUSED, fill_heap, merge_some
from kexue_cli.tasks.minent.merge_state import (
    HASH_BASE,
    MERGES,
    NODES,
    NONE,
    PAIRS,
    SYMBOLS,
    TOKENS,
    State,
    add_all_places,
    enter_pairs,
    enter_texts,
)

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

MERGES_PER_STEP = 500
LETTER_BYTES = 250  # of memory for each letter of the text, at the worst moment
MOST_PLACES = MOST_LETTERS // 3  # each merged place adds up to two nodes, numbered by 32 bits too
NO_END = 1 << 62
SYMBOL_FIELDS = ("uses", "first", "length", "hash", "spelling", "left_head", "right_head")
PAIR_FIELDS = (
    "left", "right", "pair_count", "places", "target", "next_left", "next_right", "listed",
    "saving", "heap_place", "heap",
)  # fmt: skip
NODE_FIELDS = ("node_place", "node_next")


@dataclass(frozen=True)
class Merged:
    """Merges made so far.

    pairs     what was joined, left and right text of each merge (merges,)
    savings   (merges, 2) nats that it saved: in the text's code, net of the lexicon's
    """

    pairs: list[tuple[str, str]]
    savings: NDArray[np.float64]


class Merger:
    """A text being merged.

    code_points (characters,), starts (pieces + 1,): pairs lie within pieces. The lexicon is spelled
    in the order-0 code of the text's characters, an end mark after each piece counted in.
    """

    def __init__(
        self,
        code_points: NDArray[np.uint32],
        starts: NDArray[np.int64],
        min_count: int = 2,
        max_length: int = 32,
        with_lexicon: bool = True,
    ) -> None:
        self.alphabet, characters = np.unique(code_points, return_inverse=True)
        counts = np.bincount(characters)
        total = len(characters) + len(starts) - 1
        self.end_mark = math.log(total / max(1, len(starts) - 1))
        spelling = np.log(total / counts) + self.end_mark
        rule = np.array([min_count, max_length, with_lexicon], np.int64)
        self.state = _first_state(characters.astype(np.int32), starts, counts, spelling, rule)
        fill_heap(self.state, self.end_mark)

    def steps(self, max_merges: int | None = None) -> Iterator[Merged]:
        """Merge some hundred pairs at a time, until nothing saves anything."""
        end = NO_END if max_merges is None else max_merges
        status = PAUSED
        while status in (PAUSED, FULL) and self.merges < end:
            until = min(self.merges + MERGES_PER_STEP, end)
            joined = np.empty((MERGES_PER_STEP, 2), np.int32)
            savings = np.empty((MERGES_PER_STEP, 2))
            before = self.merges
            self.state.size[MERGES] = 0
            status = merge_some(self.state, self.end_mark, until - before, joined, savings)
            made = self.merges
            self.state.size[MERGES] += before
            if status == FULL:
                self.state = _with_room(self.state)
            pairs = [(self.spell(int(a)), self.spell(int(b))) for a, b in joined[:made]]
            if made:
                yield Merged(pairs, savings[:made])

    @property
    def merges(self) -> int:
        """How many were made."""
        return int(self.state.size[MERGES])

    def spell(self, symbol: int) -> str:
        """The symbol's text."""
        first, length = int(self.state.first[symbol]), int(self.state.length[symbol])
        numbers = self.state.characters[first : first + length]
        return self.alphabet[numbers].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def counts(self) -> dict[str, int]:
        """The words in use and how often each stands in the text."""
        counts = self.state.uses[: int(self.state.size[SYMBOLS])]
        return {self.spell(int(s)): int(counts[s]) for s in np.flatnonzero(counts)}

    def ends(self) -> NDArray[np.bool_]:
        """Word ends (characters,)."""
        return np.append(self.state.token[1:] != NONE, True)

    def code_nats(self) -> float:
        """Code length of the text: -sum N_w ln(N_w / N)."""
        counts = self.state.uses[: int(self.state.size[SYMBOLS])]
        return entropy_nats(counts) * int(counts.sum())


def _first_state(
    characters: NDArray[np.int32],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    spelling: NDArray[np.float64],
    rule: NDArray[np.int64],
) -> State:
    """Every character a token; pairs counted."""
    n, symbols = len(characters), len(counts)
    following = np.arange(1, n + 1, dtype=np.int32)
    following[starts[1:] - 1] = NONE
    preceding = np.arange(-1, n - 1, dtype=np.int32)
    preceding[starts[:-1]] = NONE
    powers = np.cumprod(np.append(np.uint64(1), np.full(int(rule[1]) + 1, HASH_BASE)))
    first = np.unique(characters, return_index=True)[1].astype(np.int64)
    arrays: dict[str, Any] = {name: np.empty(0, np.int32) for name in State._fields}
    arrays |= {
        "pair_count": np.empty(0, np.int64),
        "saving": np.empty(0, np.float64),
        "listed": np.empty(0, np.uint8),
    }
    arrays |= {"token": characters.copy(), "next": following, "previous": preceding}
    arrays |= {"uses": counts.astype(np.int64), "first": first, "spelling": spelling}
    arrays |= {"length": np.ones(symbols, np.int32)}
    arrays |= {"hash": np.arange(1, symbols + 1, dtype=np.uint64)}
    arrays |= {name: np.full(symbols, NONE, np.int32) for name in ("left_head", "right_head")}
    size = np.array([n, symbols, 0, 0, 0, 0], np.int64)
    state = State(
        **(arrays | {"powers": powers, "characters": characters, "size": size, "rule": rule})
    )
    state = _with_room(state, pairs=n, nodes=n)
    add_all_places(state)
    return state


def _with_room(state: State, pairs: int = 0, nodes: int = 0) -> State:
    """A copy with at least twice the room, and `pairs` and `nodes` more."""
    size = state.size
    # One merge makes at most two pairs and two nodes at each of its places.
    longest_merge = 2 * int(state.pair_count[: int(size[PAIRS])].max(initial=0)) + 2
    room = {
        SYMBOL_FIELDS: 2 * int(size[SYMBOLS]) + MERGES_PER_STEP,
        PAIR_FIELDS: 2 * int(size[PAIRS]) + pairs + longest_merge,
        NODE_FIELDS: 2 * int(size[NODES]) + nodes + longest_merge,
    }
    changed = {}
    for fields, length in room.items():
        for name in fields:
            old = getattr(state, name)
            new = np.empty(max(length, len(old)), old.dtype)
            new[: len(old)] = old
            changed[name] = new
    for name, fields in (("text_slots", SYMBOL_FIELDS), ("pair_slots", PAIR_FIELDS)):
        entries = len(changed[fields[0]])
        changed[name] = np.full(1 << (2 * entries).bit_length(), NONE, np.int32)
    larger = state._replace(**changed)
    enter_texts(larger)
    enter_pairs(larger)
    return larger


@dataclass
class Merge(LexiconCutter):
    """model=merge; the fields are the configuration's.

    min_count       pairs seen less often are not merged
    max_length      longest word, characters
    lexicon_cost    False: merge while the text's own code shortens, which goes on for very long
    max_merges      stop after so many at the latest
    max_characters  learn from about so many characters at the start of the text
    """

    min_count: int
    max_length: int
    lexicon_cost: bool
    max_merges: int | None
    max_characters: int | None

    def __post_init__(self) -> None:
        super().__init__()
        for key, least in (("min_count", 2), ("max_length", 2)):
            if getattr(self, key) < least:
                raise ConfigError(
                    f"model.{key}", f"expected at least {least}, found {getattr(self, key)}"
                )
        self._ends: NDArray[np.bool_] | None = None

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Merge to the end; logs the entropy per character along the way (step = merges)."""
        chunk = text_to_learn(corpus, self.max_characters, LETTER_BYTES, MOST_PLACES)
        code_points, starts = chunk.segmentable()
        if not len(code_points):
            raise nothing_to_search(corpus)
        merger = Merger(code_points, starts, self.min_count, self.max_length, self.lexicon_cost)
        _log(ctx, merger)
        limit = self.max_merges
        if ctx.cfg.limit.steps is not None:
            limit = min(ctx.cfg.limit.steps, limit or NO_END)
        with ctx.console.progress(limit, "merging", unit="merges") as bar:
            for merged in merger.steps(limit):
                ctx.stop.raise_if_requested()
                bar.advance(len(merged.pairs))
                _log(ctx, merger)
        self.take(Lexicon.of(merger.counts()))
        self._ends = merger.ends()
        if not merger.merges:
            ctx.console.warn(
                "no pair pays for its place in the lexicon: the text is too short or has no "
                "repeated pairs; give more text, or model.lexicon_cost=false"
            )

    def training_ends(self) -> NDArray[np.bool_] | None:
        """The segmentation that the merges made of the text learned from."""
        return self._ends


def _log(ctx: Context, merger: Merger) -> None:
    characters = len(merger.state.token)
    ctx.log(
        step=merger.merges,
        entropy_per_character_nats=merger.code_nats() / characters,
        tokens=int(merger.state.size[TOKENS]),
    )
