"""K-Means: Lloyd's algorithm over slices of rows, with bounds that spare comparisons."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from kexue_cli.tasks.em.engine import Engine, Rows, release_pages
from kexue_cli.tasks.em.stage import Stage, State

WORTH_PRUNING = 0.9  # share of rows compared with all centres, below which bounds pay
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
        state.count = _assign(rows, state, True, engine)[3]
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
    labels: np.ndarray  # (n,) int32
    bound: np.ndarray  # (n,) float32, lower bounds of the distance to any other centre
    drift: float = 0.0  # how far centres have moved in all, at most
    passes: int = 0
    compared: float = 1.0  # share of rows compared with all centres in the last pass
    pruned: bool = False  # whether the last pass tested bounds
    iterations: int = 0
    converged: bool = False
    history: list[float] = field(default_factory=list)

    @classmethod
    def starting(cls, centres: np.ndarray, rows: int) -> _State:
        """Before the first pass."""
        sums, count = np.zeros(centres.shape), np.zeros(len(centres))
        return cls(centres, sums, count, np.zeros(rows, np.int32), np.zeros(rows, np.float32))

    def kept(self, engine: Engine, rows: Rows) -> State:
        """For a stage; labels and bounds of all processes are put together when it is saved."""
        labels = partial(_of_all_processes, self.labels, rows, engine)
        bound = partial(_of_all_processes, self.bound, rows, engine)
        return {**vars(self), "labels": labels, "bound": bound}


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
    afresh = state.iterations % RESUM_EVERY == 0
    moved, value, change, changed = _assign(rows, state, afresh, engine)
    state.sums = change if afresh else state.sums + change
    state.count = changed if afresh else state.count + changed
    state.history = [*state.history, value]
    on_iteration(state.iterations, value, moved)
    state.iterations += 1
    if moved == 0 and state.iterations > 1:
        state.converged = True
        return
    following = state.sums / np.maximum(state.count, 1e-300)[:, None]
    _refill(following, rows, state, engine)
    step = float(np.sqrt(((following - state.centres) ** 2).sum(axis=1).max()))
    state.drift += step
    state.centres = following
    state.converged = step <= within


def _assign(
    rows: Rows, state: _State, afresh: bool, engine: Engine
) -> tuple[int, float, np.ndarray, np.ndarray]:
    """Nearest centre of every row: rows moved, inertia, and the (change of) sums and counts."""
    fused = engine.device == "cpu" and importlib.util.find_spec("numba") is not None
    centres = state.centres
    step = (
        _kernel_step(rows, centres, state) if fused else _torch_step(rows, centres, engine.device)
    )
    if state.passes == 0:
        afresh = True

    def one(numbered: tuple[int, tuple[int, int]]) -> tuple[Any, ...]:
        start, stop = numbered[1]
        labels, bound = state.labels[start:stop], state.bound[start:stop]
        found = step(rows.part(start, stop), labels, bound, afresh)
        release_pages(rows.values)
        return found

    totals = np.zeros(3)  # moved, compared, inertia
    sums, count = np.zeros(centres.shape), np.zeros(len(centres))
    with engine.one_blas_thread():
        for part in engine.in_order(one, engine.share(rows.slices())):
            totals += part[:3]
            sums += part[3]
            count += part[4]
    totals, sums, count = engine.summed([totals, sums, count])
    state.passes += 1
    state.compared = totals[1] / len(rows)
    return int(totals[0]), float(totals[2]), sums, count


Step = Callable[[Rows, np.ndarray, np.ndarray, bool], tuple[Any, ...]]


def _kernel_step(rows: Rows, centres: np.ndarray, state: _State) -> Step:
    from kexue_cli.tasks.em import kmeans_kernel
    from kexue_cli.tasks.em.kernel_pass import compilable

    number = np.float32 if rows.values.dtype == np.float32 else np.float64
    compared = np.ascontiguousarray(centres, dtype=number)
    half = (0.5 * np.sum(centres**2, axis=1)).astype(number)
    safe = _half_distance_to_next(centres)
    # where bounds spared hardly any row, the next pass does without testing them
    prune = state.passes > 0 and (state.compared < WORTH_PRUNING or not state.pruned)
    state.pruned = prune

    def step(part: Rows, labels: np.ndarray, bound: np.ndarray, afresh: bool) -> tuple[Any, ...]:
        sums, count = np.zeros(centres.shape), np.zeros(len(centres))
        moved, seen, inertia = kmeans_kernel.assign(
            compilable(part.values),
            part.shift.astype(number),
            compared,
            half,
            safe,
            np.empty(0) if part.weights is None else part.weights,
            labels,
            afresh,
            prune,
            bound,
            state.drift,
            sums,
            count,
        )
        return moved, seen, inertia, sums, count

    return step


def _half_distance_to_next(centres: np.ndarray) -> np.ndarray:
    """Half the distance of each centre to the nearest other one, (K,)."""
    squares = np.sum(centres**2, axis=1)
    distances = squares[:, None] + squares - 2 * centres @ centres.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.minimum(distances.min(axis=1), 1e300)
    half: np.ndarray = 0.5 * np.sqrt(np.maximum(nearest - 1e-6 * squares.max(), 0.0))
    return half


def _torch_step(rows: Rows, centres: np.ndarray, device: str) -> Step:
    number = torch.float32 if rows.values.dtype == np.float32 else torch.float64
    c = torch.as_tensor(centres, dtype=number, device=device)
    half = 0.5 * (c * c).sum(1)

    def step(part: Rows, labels: np.ndarray, bound: np.ndarray, afresh: bool) -> tuple[Any, ...]:
        y = torch.as_tensor(part.centred(), dtype=number, device=device)
        label = torch.argmax(y @ c.T - half, dim=1)
        weights = None if part.weights is None else torch.as_tensor(part.weights, device=device)
        weight = torch.ones(len(y), dtype=number, device=device) if weights is None else weights
        found = label.to(torch.int32).cpu().numpy()
        value = float((((y - c[label]) ** 2).sum(1).double() * weight).sum())

        def summed(to: torch.Tensor, sign: float) -> tuple[np.ndarray, np.ndarray]:
            scaled = (y.double() * weight[:, None]) * sign
            sums = torch.zeros(c.shape, dtype=torch.float64, device=device)
            count = torch.zeros(len(c), dtype=torch.float64, device=device)
            sums.index_add_(0, to, scaled)
            count.index_add_(0, to, weight.double() * sign)
            return sums.cpu().numpy(), count.cpu().numpy()

        sums, count = summed(label, 1.0)
        if not afresh:
            old = torch.as_tensor(labels.astype(np.int64), device=device)
            before, before_count = summed(old, -1.0)
            sums, count = sums + before, count + before_count
        moved = int(np.count_nonzero(found != labels))
        labels[:] = found
        return moved, len(part), value, sums, count

    return step


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
        squares = np.sum((part.centred() - centres[labels[start:stop]]) ** 2, axis=1)
        release_pages(rows.values)
        return float(squares.sum() if part.weights is None else squares @ part.weights)

    total = sum(engine.in_order(one, engine.share(rows.slices())))
    return float(engine.summed([np.array([total])])[0][0])


def _refill(centres: np.ndarray, rows: Rows, state: _State, engine: Engine) -> None:
    """Give each empty cluster the row that is farthest from its centre (in place)."""
    empty = np.flatnonzero(state.count <= 0)
    if len(empty) == 0:
        return
    farthest = np.zeros((engine.ranks, len(empty), 1 + rows.values.shape[1]))  # distance, row
    candidates = [
        _farthest(rows.part(start, stop), state.centres[state.labels[start:stop]], len(empty))
        for _, (start, stop) in engine.share(rows.slices())
    ]
    if candidates:
        own = np.concatenate(candidates)
        own = own[np.argsort(-own[:, 0], kind="stable")[: len(empty)]]
        farthest[engine.rank, : len(own)] = own
    every = engine.summed([farthest])[0].reshape(-1, farthest.shape[2])
    chosen = np.argsort(-every[:, 0], kind="stable")[: len(empty)]
    centres[empty] = every[chosen, 1:]


def _farthest(rows: Rows, centres: np.ndarray, number: int) -> np.ndarray:
    """The `number` rows farthest from their centres: squared distance and row, (number, 1 + d)."""
    y = rows.centred()
    squares = np.sum((y - centres) ** 2, axis=1)
    chosen = np.argsort(-squares, kind="stable")[:number]
    return np.column_stack([squares[chosen], y[chosen]])
