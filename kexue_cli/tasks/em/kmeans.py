"""K-Means: Lloyd's algorithm over slices of rows, with bounds that spare comparisons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kexue_cli.tasks.em import kmeans_pass
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.kmeans_pass import Change, Known
from kexue_cli.tasks.em.rows import Rows, release_pages
from kexue_cli.tasks.em.stage import Stage, State

CACHED_VALUES = 64_000  # numbers in float64 that a second-level cache holds
HELD_BYTES = 2_000_000  # of centre sums that a thread holds until they are added up
RESUM_EVERY = 20  # iterations after which centre sums are made anew, against rounding


@dataclass
class KMeansFit:
    """The end of one K-Means run.

    Attributes:
        centres: (K, d) relative to the rows' shift; count: (K,) weight of each cluster.
        labels: (n,) int32, of this process's slices; empty if known from before a stop.
        inertia: sum of weight times squared distance to the own centre.
        history: inertia before each centre update.
    """

    centres: np.ndarray
    count: np.ndarray
    labels: np.ndarray
    inertia: float
    iterations: int
    converged: bool
    history: list[float] = field(default_factory=list)


def lloyd(
    values: np.ndarray | Rows,
    centres: np.ndarray,
    max_iter: int = 300,
    tol: float = 0.0,
    engine: Engine | None = None,
    on_iteration: Callable[[int, float, int], None] = lambda iteration, inertia, moved: None,
    stage: Stage | None = None,
) -> KMeansFit:
    """Lloyd's algorithm until no row moves.

    float32 rows are compared with float32 centres and summed in float64; the inertia that is
    returned is a float64 sum of squared differences.

    Args:
        values: (n, d), or rows with shift and weights.
        centres: (K, d) relative to the shift.
        tol: stop, too, when no centre moves by more than this times the rows' standard deviation.
        on_iteration: gets the iteration, the inertia before the update, and the rows that moved.
        stage: where a stopped run goes on.
    """
    rows = values if isinstance(values, Rows) else Rows(values, np.zeros(values.shape[1]))
    engine, stage = engine or Engine(), stage or Stage()
    within = tol * np.sqrt(variance_of(rows, engine)) if tol > 0 else 0.0
    if stage.state is not None and "labels" not in stage.state:  # it had ended before the stop
        return KMeansFit(labels=np.empty(0, np.int32), **stage.state)
    state = _State.starting(centres, len(rows))
    if stage.state is not None:
        state = _State(**stage.state)
    while state.iterations < max_iter and not state.converged:
        stage.keep(state.kept(engine, rows))
        _iterate(rows, state, within, engine, on_iteration)
    if not state.converged:  # the last update moved centres: labels belong to them, not their past
        _assign(rows, state, True, engine)
    end: State = {
        "centres": state.centres,
        "count": state.count,
        "inertia": inertia(rows, state.centres, state.labels, engine),
        "iterations": state.iterations,
        "converged": state.converged,
        "history": state.history,
    }
    stage.keep(end)
    return KMeansFit(labels=state.labels, **end)


@dataclass
class _State:
    """What an iteration leaves for the next one."""

    centres: np.ndarray  # (K, d)
    sums: np.ndarray  # (K, d), of the rows of each cluster
    count: np.ndarray  # (K,)
    labels: np.ndarray  # these three: see kmeans_pass.Known
    upper: np.ndarray
    lower: np.ndarray
    travelled: np.ndarray  # (K,), how far each centre has moved in all
    drift: float = 0.0  # sum of the largest steps
    square: float = 0.0  # weighted sum of squared distances from the shift
    iterations: int = 0
    converged: bool = False
    history: list[float] = field(default_factory=list)

    @classmethod
    def starting(cls, centres: np.ndarray, rows: int) -> _State:
        """Before the first pass."""
        sums, count, travelled = np.zeros(centres.shape), *np.zeros((2, len(centres)))
        upper, lower = np.zeros((2, rows), np.float32)
        return cls(centres, sums, count, np.zeros(rows, np.int32), upper, lower, travelled)

    def kept(self, engine: Engine, rows: Rows) -> State:
        """For a stage; what all processes know of rows is put together when it is saved."""
        known = {
            name: partial(_of_all_processes, getattr(self, name), rows, engine)
            for name in Known._fields
        }
        return {**vars(self), **known}


def _of_all_processes(own: np.ndarray, rows: Rows, engine: Engine) -> np.ndarray:
    """The whole of an array of which each process knows the slices it works on."""
    if engine.ranks == 1:
        return own
    whole = np.zeros(len(own))
    for _, (start, stop) in engine.share(rows.slices()):
        whole[start:stop] = own[start:stop]
    return engine.summed([whole])[0].astype(own.dtype)


def _iterate(
    rows: Rows,
    state: _State,
    within: float,
    engine: Engine,
    on_iteration: Callable[[int, float, int], None],
) -> None:
    """Assign rows, then move centres, unless no row has moved; in place."""
    moved = _assign(rows, state, state.iterations % RESUM_EVERY == 0, engine)
    value = _inertia_by_sums(state)
    state.history = [*state.history, value]
    on_iteration(state.iterations, value, moved)
    state.iterations += 1
    if moved == 0 and state.iterations > 1:
        state.converged = True
        return
    following = state.sums / np.maximum(state.count, 1e-300)[:, None]
    _refill(following, rows, state, engine)
    steps = np.sqrt(((following - state.centres) ** 2).sum(axis=1))
    state.travelled = state.travelled + steps
    state.drift += float(steps.max())
    state.centres = following
    state.converged = float(steps.max()) <= within


def _assign(rows: Rows, state: _State, afresh: bool, engine: Engine) -> int:
    """Nearest centre of every row, sums and counts of the clusters, in place; the rows moved."""
    step = _step(rows, state, afresh, engine)
    known = Known(state.labels, state.upper, state.lower)

    def several(slices: list[tuple[int, tuple[int, int]]]) -> list[Change]:
        found = []
        for _, (start, stop) in slices:
            found.append(step(rows.part(start, stop), known.part(start, stop)))
            release_pages(rows.values)
        return found

    total = Change.none(state.centres.shape)
    with engine.one_blas_thread():  # a thread gets several slices, as waking it takes a while
        slices = engine.share(rows.slices())
        size = min(-(-len(slices) // engine.threads), 1 + HELD_BYTES // state.centres.nbytes)
        for parts in engine.in_order(several, _batched(slices, size)):
            for part in parts:  # in the order of slices, whatever the number of threads
                total = total + part
    moved, _, square, sums, count = engine.summed([np.asarray(part) for part in total.parts()])
    if afresh:
        state.sums, state.count, state.square = sums, count, float(square)
    else:
        state.sums, state.count = state.sums + sums, state.count + count
    return int(moved)


def _batched(items: list[Any], size: int) -> list[list[Any]]:
    """Pieces of `size` items, the last maybe shorter."""
    return [items[start : start + size] for start in range(0, len(items), max(size, 1))]


def _step(rows: Rows, state: _State, afresh: bool, engine: Engine) -> kmeans_pass.Step:
    """The compiled pass where it can be had; its bounds hold from the second pass on."""
    if engine.device != "cpu" or kmeans_pass.obstacle() is not None:
        return kmeans_pass.torch_step(rows, state.centres, afresh, engine.device)
    prune = state.iterations > 0
    return kmeans_pass.native_step(rows, state.centres, afresh, prune, state.travelled, state.drift)


def _inertia_by_sums(state: _State) -> float:
    """Sum over rows of |y - c|^2 = sum of |y|^2 - sum over clusters of 2 c.s - n |c|^2."""
    inner = state.centres * (2 * state.sums - state.count[:, None] * state.centres)
    return max(state.square - float(inner.sum()), 0.0)


def variance_of(rows: Rows, engine: Engine) -> float:
    """Weighted mean over rows and columns of the squared distance from the shift."""
    origin = np.zeros((1, rows.values.shape[1]))
    total = inertia(rows, origin, np.zeros(len(rows), np.int8), engine)
    return total / max(rows.total_weight * rows.values.shape[1], 1e-300)


def inertia(rows: Rows, centres: np.ndarray, labels: np.ndarray, engine: Engine) -> float:
    """Sum of weight times squared distance of each row to the centre `labels` gives it."""

    def one(numbered: tuple[int, tuple[int, int]]) -> float:
        start, stop = numbered[1]
        part = rows.part(start, stop)
        squares = _squared_distances(part, centres, labels[start:stop])
        release_pages(rows.values)
        return float(squares.sum() if part.weights is None else squares @ part.weights)

    total = sum(engine.in_order(one, engine.share(rows.slices())))
    return float(engine.summed([np.array([total])])[0][0])


def _squared_distances(rows: Rows, centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each row to the centre its label names, (n,)."""
    squares = np.empty(len(rows))
    few = max(1, CACHED_VALUES // rows.values.shape[1])
    for start in range(0, len(rows), few):
        away = rows.part(start, start + few).centred()
        away -= centres[labels[start : start + few]]
        squares[start : start + few] = np.einsum("nd,nd->n", away, away)
    return squares


def _refill(centres: np.ndarray, rows: Rows, state: _State, engine: Engine) -> None:
    """Give each empty cluster the row that is farthest from its centre (in place)."""
    empty = np.flatnonzero(state.count <= 0)
    if len(empty) == 0:
        return
    farthest = np.zeros((engine.ranks, len(empty), 1 + rows.values.shape[1]))  # distance, row
    candidates = [
        _farthest(rows.part(start, stop), state.centres, state.labels[start:stop], len(empty))
        for _, (start, stop) in engine.share(rows.slices())
    ]
    if candidates:
        own = np.concatenate(candidates)
        own = own[np.argsort(-own[:, 0], kind="stable")[: len(empty)]]
        farthest[engine.rank, : len(own)] = own
    every = engine.summed([farthest])[0].reshape(-1, farthest.shape[2])
    chosen = np.argsort(-every[:, 0], kind="stable")[: len(empty)]
    centres[empty] = every[chosen, 1:]


def _farthest(rows: Rows, centres: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """The `number` rows farthest from their centres: squared distance and row, (number, 1 + d)."""
    squares = _squared_distances(rows, centres, labels)
    if rows.weights is not None:  # a row without weight would leave the cluster empty
        squares[rows.weights <= 0] = 0.0
    chosen = np.argsort(-squares, kind="stable")[:number]
    return np.column_stack([squares[chosen], rows.centred()[chosen]])
