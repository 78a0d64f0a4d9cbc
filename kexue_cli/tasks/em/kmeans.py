"""K-Means: Lloyd's algorithm, and the mixture whose common variance goes to zero (post 5155)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.engine import Engine, Rows
from kexue_cli.tasks.em.natural import Natural

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
    squares = _sum_of_squares(rows, engine)
    spread = np.sqrt(squares / max(rows.total_weight * centres.shape[1], 1e-300))
    labels = np.full(len(rows), -1, dtype=np.int32)
    sums, count = np.zeros(centres.shape), np.zeros(len(centres))
    fit = KMeansFit(centres, count, labels, np.inf, 0, False)
    for iteration in range(max_iter):
        afresh = iteration % RESUM_EVERY == 0
        moved, score, change, changed = _assign(rows, fit.centres, labels, afresh, engine)
        sums = change if afresh else sums + change
        count = changed if afresh else count + changed
        fit.history.append(squares - 2 * score)
        on_iteration(iteration, fit.history[-1], moved)
        fit.iterations = iteration + 1
        if moved == 0:
            fit.converged = True
            break
        following = sums / np.maximum(count, 1e-300)[:, None]
        _refill(following, count, rows, labels, fit.centres, engine)
        step = float(np.sqrt(((following - fit.centres) ** 2).sum(axis=1).max()))
        fit.centres = following
        if step <= tol * spread:
            fit.converged = True
            break
    fit.count = count
    fit.inertia = inertia(rows, fit.centres, labels, engine)
    return fit


def _assign(
    rows: Rows, centres: np.ndarray, labels: np.ndarray, afresh: bool, engine: Engine
) -> tuple[int, float, np.ndarray, np.ndarray]:
    """Nearest centre of every row: rows moved, score, and the (change of) sums and counts."""
    fused = engine.device == "cpu" and importlib.util.find_spec("numba") is not None
    step = _kernel_step(rows, centres) if fused else _torch_step(rows, centres, engine.device)

    def one(numbered: tuple[int, tuple[int, int]]) -> tuple[int, float, np.ndarray, np.ndarray]:
        start, stop = numbered[1]
        return step(rows.part(start, stop), labels[start:stop], afresh)

    moved, score = 0, 0.0
    sums, count = np.zeros(centres.shape), np.zeros(len(centres))
    for part in engine.in_order(one, engine.share(rows.slices())):
        moved, score = moved + part[0], score + part[1]
        sums += part[2]
        count += part[3]
        engine.poll()
    totals, sums, count = engine.summed([np.array([moved, score]), sums, count])
    return int(totals[0]), float(totals[1]), sums, count


Step = Callable[[Rows, np.ndarray, bool], tuple[int, float, np.ndarray, np.ndarray]]


def _kernel_step(rows: Rows, centres: np.ndarray) -> Step:
    from kexue_cli.tasks.em import kernel, kmeans_kernel

    number = np.float32 if rows.values.dtype == np.float32 else np.float64
    components, columns = centres.shape
    size = kernel.TILE
    w = np.zeros((-(-components // size) * size, -(-(columns + 1) // size) * size), dtype=number)
    w[:components, 0] = -0.5 * np.sum(centres**2, axis=1)
    w[:components, 1 : columns + 1] = centres
    nothing = np.empty(0, dtype=np.int32)

    def step(
        part: Rows, labels: np.ndarray, afresh: bool
    ) -> tuple[int, float, np.ndarray, np.ndarray]:
        sums, count = np.zeros(centres.shape), np.zeros(components)
        weight = np.empty(0) if part.weights is None else part.weights
        values = np.ascontiguousarray(part.values)
        shift, old = part.shift.astype(number), nothing if afresh else labels
        before = labels.copy() if afresh else labels
        moved, score = kmeans_kernel.assign(
            values, shift, w, components, weight, labels, old, sums, count
        )
        if afresh:  # then every row counts as moved; compare instead
            moved = int(np.count_nonzero(before != labels))
        return moved, score, sums, count

    return step


def _torch_step(rows: Rows, centres: np.ndarray, device: str) -> Step:
    number = torch.float32 if rows.values.dtype == np.float32 else torch.float64
    c = torch.as_tensor(centres, dtype=number, device=device)
    half = 0.5 * (c * c).sum(1)

    def step(
        part: Rows, labels: np.ndarray, afresh: bool
    ) -> tuple[int, float, np.ndarray, np.ndarray]:
        y = torch.as_tensor(part.centred(), dtype=number, device=device)
        best, label = torch.max(y @ c.T - half, dim=1)
        weights = None if part.weights is None else torch.as_tensor(part.weights, device=device)
        weight = torch.ones(len(y), dtype=number, device=device) if weights is None else weights
        found = label.to(torch.int32).cpu().numpy()
        score = float((best.double() * weight).sum())

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
        return moved, score, sums, count

    return step


def _sum_of_squares(rows: Rows, engine: Engine) -> float:
    def one(numbered: tuple[int, tuple[int, int]]) -> float:
        part = rows.part(*numbered[1])
        squares = np.sum(part.centred() ** 2, axis=1)
        return float(squares.sum() if part.weights is None else squares @ part.weights)

    total = sum(engine.in_order(one, engine.share(rows.slices())))
    return float(engine.summed([np.array([total])])[0][0])


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
    """EM of sum_k N(y; c_k, s^2 I)/K while s^2 falls from the data's variance towards 0.

    Args:
        rate: factor of s^2 after every `inner` iterations; final: last s^2 over the first.

    Source: kexue.fm post 5155: for s -> 0 the responsibilities become 0 or 1 and EM is K-Means.
    """
    variance = _sum_of_squares(rows, engine) / (rows.total_weight * centres.shape[1])
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
