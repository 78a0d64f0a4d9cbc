"""Products of a large matrix with one row, which only read memory: as fast as it delivers.

One token of one text needs every weight once, so bytes per weight are what counts. The kernels take
float32, bfloat16 or int8 weights and compute in float32. This module needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@njit(fastmath=True, parallel=True, cache=True)
def float32_product(weight: Floats, x: Floats, output: Floats) -> None:
    """Write weight (out, in) @ x (in,) to output (out,)."""
    for i in prange(weight.shape[0]):
        total = np.float32(0)
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        output[i] = total


@njit(fastmath=True, parallel=True, cache=True)
def bfloat16_product(weight: NDArray[np.uint16], x: Floats, output: Floats) -> None:
    """The same; `weight` holds bfloat16 as uint16: the upper halves of float32 numbers."""
    for i in prange(weight.shape[0]):
        total = np.float32(0)
        for j in range(weight.shape[1]):
            bits: Any = np.uint32(np.uint32(weight[i, j]) << np.uint32(16))
            total += bits.view(np.float32) * x[j]
        output[i] = total


@njit(fastmath=True, parallel=True, cache=True)
def int8_product(weight: NDArray[np.int8], scale: Floats, x: Floats, output: Floats) -> None:
    """The same; row i of the matrix is scale[i] * weight[i]."""
    for i in prange(weight.shape[0]):
        total = np.float32(0)
        for j in range(weight.shape[1]):
            total += np.float32(weight[i, j]) * x[j]
        output[i] = total * scale[i]
