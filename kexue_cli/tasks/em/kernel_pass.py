"""Packing natural parameters for the compiled kernel, and its sums back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kexue_cli.tasks.em import kernel
from kexue_cli.tasks.em.natural import Natural, Statistics
from kexue_cli.tasks.em.rows import Mode, Rows

KINDS = {
    None: kernel.NO_SECOND,
    2: kernel.SPHERICAL,
    3: kernel.DIAGONAL,
    4: kernel.FULL,
}
MODES = {"soft": kernel.SOFT, "hard": kernel.HARD, "stochastic": kernel.STOCHASTIC}


def kernel_step(natural: Natural) -> Callable[[Rows, Mode, np.ndarray], Statistics]:
    """A function from a slice of rows (and its random numbers) to its sums."""
    restarts, components, _ = natural.linear.shape
    kind = KINDS[None if natural.quadratic is None else natural.quadratic.ndim]
    packed = pack(natural)

    def step(rows: Rows, mode: Mode, noise: np.ndarray) -> Statistics:
        sums = np.zeros_like(packed)
        totals = np.zeros((restarts, 2))
        kernel.sweep(
            compilable(rows.values),
            rows.shift,
            kind,
            packed,
            restarts,
            components,
            MODES[mode],
            np.empty(0) if rows.weights is None else np.ascontiguousarray(rows.weights, float),
            np.empty(0, np.int64) if rows.labels is None else np.ascontiguousarray(rows.labels),
            noise,
            sums,
            totals,
        )
        return unpack(sums, totals, natural)

    return step


def compilable(values: np.ndarray) -> np.ndarray:
    """The same rows as one of the few kinds of array that numba compiles the kernels for."""
    if values.dtype not in (np.float32, np.float64):
        return values.astype(np.float64)
    return np.require(values, requirements=["C", "W"])


def _padded(size: int) -> int:
    return -(-size // kernel.TILE) * kernel.TILE


def pack(natural: Natural) -> np.ndarray:
    """(C, F): constant, linear and quadratic terms by feature, with zeros up to multiples of TILE.

    The pair (i, j < i) of a symmetric matrix stands once, with twice its value.
    """
    restarts, components, columns = natural.linear.shape
    rows = restarts * components
    parts = [natural.constant.reshape(rows, 1), natural.linear.reshape(rows, columns)]
    if natural.quadratic is not None and natural.quadratic.ndim < 4:
        parts.append(natural.quadratic.reshape(rows, -1))
    elif natural.quadratic is not None:
        lower = np.tril_indices(columns)
        factor = np.where(lower[0] == lower[1], 1.0, 2.0)
        parts.append(natural.quadratic.reshape(rows, columns, columns)[:, *lower] * factor)
    features = np.concatenate(parts, axis=1)
    packed = np.zeros((_padded(rows), _padded(features.shape[1])))
    packed[:rows, : features.shape[1]] = features
    return packed


def unpack(sums: np.ndarray, totals: np.ndarray, natural: Natural) -> Statistics:
    """The inverse layout of `pack`, for sums."""
    restarts, components, columns = natural.linear.shape
    shaped = sums[: restarts * components].reshape(restarts, components, -1)
    count, first, rest = shaped[..., 0], shaped[..., 1 : 1 + columns], shaped[..., 1 + columns :]
    second: np.ndarray | None = None
    if natural.quadratic is not None and natural.quadratic.ndim == 2:
        second = rest[..., 0].copy()
    elif natural.quadratic is not None and natural.quadratic.ndim == 3:
        second = rest[..., :columns].copy()
    elif natural.quadratic is not None:
        lower = np.tril_indices(columns)
        second = np.zeros((restarts, components, columns, columns))
        second[:, :, lower[0], lower[1]] = rest[..., : len(lower[0])]
        second[:, :, lower[1], lower[0]] = rest[..., : len(lower[0])]
    return Statistics(count.copy(), first.copy(), second, totals[:, 0].copy(), totals[:, 1].copy())
