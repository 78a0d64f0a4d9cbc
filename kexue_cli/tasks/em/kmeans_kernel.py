"""Lloyd's assignment and centre sums in one pass over a slab of rows, compiled by numba."""

from __future__ import annotations

import numba
import numpy as np

from kexue_cli.tasks.em.kernel import BLOCK, TILE, _log_joint

_FAST = {"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _columns(x, shift, y):
    """Rows (b, d) to columns (1 + d, BLOCK) less `shift`."""
    for b in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[1 + j, b] = x[b, j] - shift[j]


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _arg_max(scores, centres, best, label):
    """Column-wise maximum of scores (C, BLOCK) and where it is."""
    best[:] = scores[0]
    label[:] = 0
    for k in range(1, centres):
        row = scores[k]
        for b in range(BLOCK):
            if row[b] > best[b]:
                best[b] = row[b]
                label[b] = k


@numba.njit(nogil=True, cache=True)
def assign(x, shift, w, centres, weight, labels, old_labels, sums, count):
    """Move each row to its nearest centre.

    Args:
        x: (n, d); shift: (d,) of the same type.
        w: (C, F) rows -|c|^2/2, c: their product with (1, y) is largest for the nearest centre.
        weight: (n,) or empty.
        labels: (n,) int32, overwritten; old_labels: what was there, or empty: then `sums` and
            `count` are sums over all rows, else changes by the rows that moved.
        sums: (K, d) float64; count: (K,) float64.

    Returns:
        The rows that moved, and the sum over rows of max_k (c_k . y - |c_k|^2/2).
    """
    n, d = x.shape
    y = np.zeros((w.shape[1], BLOCK), dtype=w.dtype)
    y[0] = 1
    scores = np.empty((w.shape[0], BLOCK), dtype=w.dtype)
    best = np.empty(BLOCK, dtype=w.dtype)
    label = np.empty(BLOCK, dtype=np.int32)
    moved, score = 0, 0.0
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        _columns(x[start:stop], shift, y)
        _log_joint(y, w, scores)
        _arg_max(scores, centres, best, label)
        for b in range(stop - start):
            row, new = start + b, label[b]
            old = old_labels[row] if old_labels.shape[0] else -1
            amount = weight[row] if weight.shape[0] else 1.0
            score += amount * best[b]
            if new == old:
                continue
            moved += 1
            labels[row] = new
            count[new] += amount
            for j in range(d):
                sums[new, j] += amount * (x[row, j] - shift[j])
            if old >= 0:
                count[old] -= amount
                for j in range(d):
                    sums[old, j] -= amount * (x[row, j] - shift[j])
    return moved, score
