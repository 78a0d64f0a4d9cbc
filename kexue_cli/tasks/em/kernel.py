"""E-step and sums of the M-step in one pass over a slab of rows, compiled by numba.

A block of rows stays in cache: its features 1, y, T(y) are laid out feature by feature, log joint
probabilities are their product with the natural parameters, responsibilities overwrite those, and
the sums are the product back. Symmetric features need each pair of columns once, which halves the
work. Both products go in tiles of 4 x 4, the number of accumulators that stays in registers.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numba
import numpy as np

# rows; 561 features of 144 rows are 0.6 MB, which a second-level cache holds, and a row of features
# is no power of two of bytes away from the next, which would crowd a few lines of the first level
BLOCK = 144
TILE = 4
NO_SECOND, SPHERICAL, DIAGONAL, FULL = 0, 1, 2, 3  # T(y)
SOFT, HARD, STOCHASTIC = 0, 1, 2  # responsibilities

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it leaves round(x) in the lowest bits
_FAST = {"reassoc", "contract", "arcp", "nsz", "nnan", "ninf"}


@numba.njit(nogil=True, cache=True)
def _exponential(x, scratch, out):
    """Set out = exp(x), x <= 0, to 2 ulp; plain loops that the compiler turns into vector code."""
    scratch_bits, out_bits = scratch.view(np.int64), out.view(np.int64)
    for b in range(x.shape[0]):
        value = max(x[b], -700.0)
        shifted = value * _LOG2_E + _ROUND
        scratch[b] = shifted
        n = shifted - _ROUND
        r = (value - n * _LN2_HIGH) - n * _LN2_LOW
        p = 1 / 6227020800.0
        p = p * r + 1 / 479001600.0
        p = p * r + 1 / 39916800.0
        p = p * r + 1 / 3628800.0
        p = p * r + 1 / 362880.0
        p = p * r + 1 / 40320.0
        p = p * r + 1 / 5040.0
        p = p * r + 1 / 720.0
        p = p * r + 1 / 120.0
        p = p * r + 1 / 24.0
        p = p * r + 1 / 6.0
        p = p * r + 0.5
        out[b] = (p * r + 1.0) * r + 1.0
    for b in range(x.shape[0]):
        out_bits[b] += scratch_bits[b] << 52  # times 2^n


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _features(x, shift, kind, phi):  # noqa: C901 - loops over columns, one set per kind
    """Rows (b, d) to features (1 + d + ..., BLOCK), centred by `shift`."""
    rows, d = x.shape
    for b in range(rows):
        for j in range(d):
            phi[1 + j, b] = np.float64(x[b, j]) - shift[j]
    f = 1 + d
    if kind == SPHERICAL:
        phi[f, :rows] = 0.0
        for j in range(d):
            y = phi[1 + j]
            for b in range(rows):
                phi[f, b] += y[b] * y[b]
    elif kind == DIAGONAL:
        for j in range(d):
            y, out = phi[1 + j], phi[f + j]
            for b in range(rows):
                out[b] = y[b] * y[b]
    elif kind == FULL:
        for i in range(d):
            left = phi[1 + i]
            for j in range(i + 1):
                right, out = phi[1 + j], phi[f]
                for b in range(rows):
                    out[b] = left[b] * right[b]
                f += 1


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _log_joint(phi, w, logits):
    """Set logits (C, BLOCK) = w (C, F) @ phi (F, BLOCK); C and F are multiples of TILE."""
    components, features = w.shape
    block = phi.shape[1]
    logits[:] = 0.0
    for f in range(0, features, TILE):
        p0, p1, p2, p3 = phi[f], phi[f + 1], phi[f + 2], phi[f + 3]
        for c in range(0, components, TILE):
            a0, a1, a2, a3 = logits[c], logits[c + 1], logits[c + 2], logits[c + 3]
            w00, w01, w02, w03 = w[c, f], w[c, f + 1], w[c, f + 2], w[c, f + 3]
            w10, w11, w12, w13 = w[c + 1, f], w[c + 1, f + 1], w[c + 1, f + 2], w[c + 1, f + 3]
            w20, w21, w22, w23 = w[c + 2, f], w[c + 2, f + 1], w[c + 2, f + 2], w[c + 2, f + 3]
            w30, w31, w32, w33 = w[c + 3, f], w[c + 3, f + 1], w[c + 3, f + 2], w[c + 3, f + 3]
            for b in range(block):
                x0, x1, x2, x3 = p0[b], p1[b], p2[b], p3[b]
                a0[b] += w00 * x0 + w01 * x1 + w02 * x2 + w03 * x3
                a1[b] += w10 * x0 + w11 * x1 + w12 * x2 + w13 * x3
                a2[b] += w20 * x0 + w21 * x1 + w22 * x2 + w23 * x3
                a3[b] += w30 * x0 + w31 * x1 + w32 * x2 + w33 * x3


@numba.njit(nogil=True, fastmath=_FAST, cache=True)
def _accumulate(phi, r, sums):
    """Add to sums (C, F): r (C, BLOCK) @ phi^T (BLOCK, F); C and F are multiples of TILE."""
    components, block = r.shape
    for f in range(0, phi.shape[0], TILE):
        p0, p1, p2, p3 = phi[f], phi[f + 1], phi[f + 2], phi[f + 3]
        for c in range(0, components, TILE):
            r0, r1, r2, r3 = r[c], r[c + 1], r[c + 2], r[c + 3]
            s00, s01, s02, s03 = 0.0, 0.0, 0.0, 0.0
            s10, s11, s12, s13 = 0.0, 0.0, 0.0, 0.0
            s20, s21, s22, s23 = 0.0, 0.0, 0.0, 0.0
            s30, s31, s32, s33 = 0.0, 0.0, 0.0, 0.0
            for b in range(block):
                x0, x1, x2, x3 = p0[b], p1[b], p2[b], p3[b]
                y0, y1, y2, y3 = r0[b], r1[b], r2[b], r3[b]
                s00 += y0 * x0
                s01 += y0 * x1
                s02 += y0 * x2
                s03 += y0 * x3
                s10 += y1 * x0
                s11 += y1 * x1
                s12 += y1 * x2
                s13 += y1 * x3
                s20 += y2 * x0
                s21 += y2 * x1
                s22 += y2 * x2
                s23 += y2 * x3
                s30 += y3 * x0
                s31 += y3 * x1
                s32 += y3 * x2
                s33 += y3 * x3
            for i, row in enumerate(
                (
                    (s00, s01, s02, s03),
                    (s10, s11, s12, s13),
                    (s20, s21, s22, s23),
                    (s30, s31, s32, s33),
                )
            ):
                for j in range(TILE):
                    sums[c + i, f + j] += row[j]


@numba.njit(nogil=True, cache=True)
def _only(logits, first, components, b, chosen, weight):
    """Responsibility `weight` for component `chosen` of row b, none for the others."""
    for k in range(components):
        logits[first + k, b] = weight if k == chosen else 0.0


@numba.njit(nogil=True, cache=True)
def _drawn(logits, first, components, b, top, threshold):
    """The component at which the running sum of exp(logit - top) passes `threshold`."""
    running = 0.0
    for k in range(components):
        running += math.exp(logits[first + k, b] - top)
        if running >= threshold:
            return k
    return components - 1


@numba.njit(nogil=True, fastmath={"contract"}, cache=True)
def _posterior(  # noqa: C901 - one loop over rows, a branch per mode
    logits, rows, first, components, mode, weight, label, noise, restart, work, totals
):
    """Turn the log joints of one restart into weighted responsibilities, in place.

    totals[restart] gains the sum of log p(y) and the sum of entropies.
    """
    top, total, product, scratch, shifted = work[0], work[1], work[2], work[3], work[4]
    top[:] = logits[first]
    for k in range(1, components):
        row = logits[first + k]
        for b in range(rows):
            top[b] = max(top[b], row[b])
    total[:] = 0.0
    product[:] = 0.0
    soft = mode == SOFT and label.shape[0] == 0
    for k in range(components):
        row = logits[first + k]
        for b in range(rows):
            shifted[b] = row[b] - top[b]
        out = row if soft else work[5]
        _exponential(shifted[:rows], scratch[:rows], out[:rows])
        for b in range(rows):
            total[b] += out[b]
            product[b] += out[b] * max(shifted[b], -700.0)
    for b in range(rows):
        w = weight[b] if weight.shape[0] else 1.0
        log_total = math.log(total[b])
        marginal, entropy = top[b] + log_total, log_total - product[b] / total[b]
        chosen = np.int64(-1)
        if label.shape[0] and label[b] >= 0:
            chosen = label[b]
            marginal, entropy = logits[first + chosen, b], 0.0
        elif mode == HARD:
            chosen = np.argmax(logits[first : first + components, b])
            marginal, entropy = top[b], 0.0
        elif mode == STOCHASTIC:
            threshold = noise[b, restart] * total[b]
            chosen, entropy = _drawn(logits, first, components, b, top[b], threshold), 0.0
        totals[restart, 0] += w * marginal
        totals[restart, 1] += w * entropy
        total[b] = w / total[b]
        if chosen >= 0:
            _only(logits, first, components, b, chosen, w)
        elif not soft:
            for k in range(components):
                logits[first + k, b] = math.exp(logits[first + k, b] - top[b]) * total[b]
    if soft:
        for k in range(components):
            row = logits[first + k]
            for b in range(rows):
                row[b] *= total[b]


@numba.njit(nogil=True, cache=True)
def sweep(x, shift, kind, w, restarts, components, mode, weight, label, noise, sums, totals):
    """Add the sums over the rows of x to `sums` and `totals`.

    Args:
        x: (n, d) of any real type; shift: (d,), taken off each row.
        kind: T(y), one of NO_SECOND, SPHERICAL, DIAGONAL, FULL.
        w: (C, F) natural parameters by packed feature, restart after restart, padded with zeros to
            multiples of TILE.
        mode: SOFT, HARD or STOCHASTIC; weight: (n,) or empty; label: (n,), -1 unknown, or empty;
            noise: (n, restarts) uniform in [0, 1), or (n, 0).
        sums: (C, F); totals: (restarts, 2), log-likelihood and entropy.
    """
    n = x.shape[0]
    phi = np.zeros((w.shape[1], BLOCK))
    phi[0] = 1.0
    logits = np.empty((w.shape[0], BLOCK))
    work = np.zeros((6, BLOCK))
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        rows = stop - start
        _features(x[start:stop], shift, kind, phi)
        _log_joint(phi, w, logits)
        for restart in range(restarts):
            _posterior(
                logits,
                rows,
                restart * components,
                components,
                mode,
                weight[start:stop],
                label[start:stop],
                noise[start:stop],
                restart,
                work,
                totals,
            )
        if rows < BLOCK:
            logits[:, rows:] = 0.0
        logits[restarts * components :] = 0.0
        _accumulate(phi, logits, sums)
