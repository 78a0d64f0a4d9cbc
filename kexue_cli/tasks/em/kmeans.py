"""K-Means: Lloyd's algorithm, and the mixture whose common variance goes to zero (post 5155)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.engine import Engine, Rows
from kexue_cli.tasks.em.natural import Natural

WORTH_PRUNING = 0.9  # share of rows compared with all centres, below which bounds pay
RESUM_EVERY = 20  # iterations after which centre sums are made anew, against rounding


@dataclass
class KMeansFit:
    """The end of one K-Means run.

    Attributes:
        centres: (K, d) relative to the rows' shift; count: (K,) weight of each cluster.
        labels: (n,) int32 (of this process's slices); inertia: sum of weight times squared
            distance to the own centre.
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
) -> KMeansFit:
    """Lloyd's algorithm until no row moves.

    float32 rows are compared with float32 centres and summed in float64; the inertia that is
    returned is a float64 sum of squared differences.

    Args:
        values: (n, d), or rows with shift and weights.
        centres: (K, d) relative to the shift.
        tol: stop, too, when no centre moves by more than this times the rows' standard deviation.
        on_iteration: gets the iteration, the inertia before the update, and the rows that moved.
    """
    rows = values if isinstance(values, Rows) else Rows(values, np.zeros(values.shape[1]))
    engine = engine or Engine()
    spread = np.sqrt(variance_of(rows, engine)) if tol > 0 else 0.0
    state = _State(np.zeros(len(rows), dtype=np.int32), np.zeros(len(rows), dtype=np.float32))
    sums, count = np.zeros(centres.shape), np.zeros(len(centres))
    fit = KMeansFit(centres, count, state.labels, np.inf, 0, False)
    for iteration in range(max_iter):
        afresh = iteration % RESUM_EVERY == 0
        moved, value, change, changed = _assign(rows, fit.centres, state, afresh, engine)
        sums = change if afresh else sums + change
        count = changed if afresh else count + changed
        fit.history.append(value)
        on_iteration(iteration, value, moved)
        fit.iterations = iteration + 1
        if moved == 0 and iteration > 0:
            fit.converged = True
            break
        following = sums / np.maximum(count, 1e-300)[:, None]
        _refill(following, count, rows, state.labels, fit.centres, engine)
        step = float(np.sqrt(((following - fit.centres) ** 2).sum(axis=1).max()))
        state.drift += step
        fit.centres = following
        if step <= tol * spread:
            fit.converged = True
            break
    if not fit.converged:  # the last update moved centres: labels belong to them, not to their past
        _, _, _, count = _assign(rows, fit.centres, state, True, engine)
    fit.count = count
    fit.inertia = inertia(rows, fit.centres, state.labels, engine)
    return fit


@dataclass
class _State:
    """What passes leave for the next one: labels, lower bounds, how far centres have moved."""

    labels: np.ndarray  # (n,) int32
    bound: np.ndarray  # (n,) float32
    drift: float = 0.0
    passes: int = 0
    compared: float = 1.0  # share of rows compared with all centres in the last pass
    pruned: bool = False  # whether the last pass tested bounds


def _assign(
    rows: Rows, centres: np.ndarray, state: _State, afresh: bool, engine: Engine
) -> tuple[int, float, np.ndarray, np.ndarray]:
    """Nearest centre of every row: rows moved, inertia, and the (change of) sums and counts."""
    fused = engine.device == "cpu" and importlib.util.find_spec("numba") is not None
    step = (
        _kernel_step(rows, centres, state) if fused else _torch_step(rows, centres, engine.device)
    )
    if state.passes == 0:
        afresh = True

    def one(numbered: tuple[int, tuple[int, int]]) -> tuple[Any, ...]:
        start, stop = numbered[1]
        labels, bound = state.labels[start:stop], state.bound[start:stop]
        return step(rows.part(start, stop), labels, bound, afresh)

    totals = np.zeros(3)  # moved, compared, inertia
    sums, count = np.zeros(centres.shape), np.zeros(len(centres))
    with engine.one_blas_thread():
        for part in engine.in_order(one, engine.share(rows.slices())):
            totals += part[:3]
            sums += part[3]
            count += part[4]
            engine.poll()
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

    def one(numbered: tuple[int, tuple[int, int]]) -> float:
        part = rows.part(*numbered[1])
        squares = np.sum(part.centred() ** 2, axis=1)
        return float(squares.sum() if part.weights is None else squares @ part.weights)

    total = sum(engine.in_order(one, engine.share(rows.slices())))
    whole = float(engine.summed([np.array([total])])[0][0])
    return whole / max(rows.total_weight * rows.values.shape[1], 1e-300)


def inertia(rows: Rows, centres: np.ndarray, labels: np.ndarray, engine: Engine) -> float:
    """Sum of weight times squared distance of each row to the centre `labels` gives it."""

    def one(numbered: tuple[int, tuple[int, int]]) -> float:
        start, stop = numbered[1]
        part = rows.part(start, stop)
        squares = np.sum((part.centred() - centres[labels[start:stop]]) ** 2, axis=1)
        return float(squares.sum() if part.weights is None else squares @ part.weights)

    total = sum(engine.in_order(one, engine.share(rows.slices())))
    return float(engine.summed([np.array([total])])[0][0])


def _refill(
    centres: np.ndarray,
    count: np.ndarray,
    rows: Rows,
    labels: np.ndarray,
    old: np.ndarray,
    engine: Engine,
) -> None:
    """Give each empty cluster the row that is farthest from its centre (in place)."""
    empty = np.flatnonzero(count <= 0)
    if len(empty) == 0:
        return
    if engine.ranks > 1:
        raise UserError(
            f"{len(empty)} K-Means clusters became empty, which data-parallel runs do not refill; "
            "lower model.n_components or run one process"
        )
    farthest = np.concatenate(
        [
            np.sum((rows.part(a, b).centred() - old[labels[a:b]]) ** 2, axis=1)
            for a, b in rows.slices()
        ]
    )
    chosen = np.argsort(farthest)[::-1][: len(empty)]
    centres[empty] = np.asarray(rows.values[np.sort(chosen)], dtype=np.float64) - rows.shift


@dataclass
class AnnealedFit:
    """K-Means as a limit: the path of a mixture with equal weights and one shrinking variance."""

    centres: np.ndarray
    variance: list[float]
    entropy_per_row: list[float]  # nats; 0 when all responsibilities are 0 or 1
    inertia: list[float]  # of the hard assignment
    labels: np.ndarray


def annealed(
    rows: Rows,
    centres: np.ndarray,
    engine: Engine,
    rate: float = 0.9,
    final: float = 1e-4,
    inner: int = 3,
) -> AnnealedFit:
    """EM of sum_k N(y; c_k, s^2 I)/K while s^2 falls from the data's total variance towards 0.

    Args:
        rate: factor of s^2 after every `inner` iterations; final: last s^2 over the first.

    Source: kexue.fm post 5155: for s -> 0 the responsibilities become 0 or 1 and EM is K-Means.
    """
    variance = variance_of(rows, engine) * centres.shape[1]  # above every direction's variance
    last = variance * final
    fit = AnnealedFit(centres, [], [], [], np.empty(0, np.int32))
    while variance > last:
        for _ in range(inner):
            natural = _common_variance(fit.centres, variance)
            sums = engine.expectation(rows, natural)
            fit.centres = sums.first[0] / np.maximum(sums.count[0], 1e-300)[:, None]
        fit.variance.append(variance)
        fit.entropy_per_row.append(float(sums.entropy[0]) / rows.total_weight)
        fit.inertia.append(lloyd(rows, fit.centres, max_iter=1, engine=engine).history[0])
        variance *= rate
    hard = lloyd(rows, fit.centres, engine=engine)
    fit.centres, fit.labels = hard.centres, hard.labels
    fit.variance.append(0.0)
    fit.entropy_per_row.append(0.0)
    fit.inertia.append(hard.inertia)
    return fit


def _common_variance(centres: np.ndarray, variance: float) -> Natural:
    constant = -0.5 * np.sum(centres**2, axis=1) / variance
    return Natural(constant[None], (centres / variance)[None], None, np.zeros(1))
