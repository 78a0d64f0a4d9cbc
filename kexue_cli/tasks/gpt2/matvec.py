"""Products of a large matrix with one row, which only read memory: as fast as it delivers.

One token of one text needs every weight once, so bytes per weight are what counts. The kernels take
float32, bfloat16 or int8 weights, and leave other threads alone. This module needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# int8 weights are multiplied with inputs rounded to 12 bits; 8,192 products add up within 32 bits
LARGEST_INPUT = np.float32(2047)
LONGEST_INT8_ROW = 8192


@njit(fastmath=True, nogil=True, cache=True)
def float32_product(weight: Floats, bias: Floats, x: Floats, output: Floats) -> None:
    """Write weight (out, in) @ x (in,) + bias (out,) to output (out,)."""
    for i in range(weight.shape[0]):
        total = np.float32(0)
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        output[i] = total + bias[i]


@njit(fastmath=True, nogil=True, cache=True)
def bfloat16_product(weight: NDArray[np.uint16], bias: Floats, x: Floats, output: Floats) -> None:
    """The same; `weight` holds bfloat16 as uint16: the upper halves of float32 numbers."""
    for i in range(weight.shape[0]):
        total = np.float32(0)
        for j in range(weight.shape[1]):
            bits: Any = np.uint32(np.uint32(weight[i, j]) << np.uint32(16))
            total += bits.view(np.float32) * x[j]
        output[i] = total + bias[i]


@njit(fastmath=True, nogil=True, cache=True)
def int8_product(
    weight: NDArray[np.int8], scale: Floats, bias: Floats, x: Floats, output: Floats
) -> None:
    """The same; row i of the matrix is scale[i] * weight[i], x is rounded to 12 bits."""
    largest = np.float32(0)
    for j in range(x.shape[0]):
        largest = max(largest, abs(x[j]))
    step = largest / LARGEST_INPUT if largest > 0 else np.float32(1)
    rounded = np.empty(x.shape[0], np.int16)
    for j in range(x.shape[0]):
        rounded[j] = np.int16(np.rint(x[j] / step))
    for i in range(weight.shape[0]):
        total = np.int32(0)
        for j in range(weight.shape[1]):
            product = np.int32(np.int32(weight[i, j]) * np.int32(rounded[j]))
            total = np.int32(total + product)
        output[i] = np.float32(total) * (scale[i] * step) + bias[i]
