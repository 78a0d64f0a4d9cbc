"""The compiled half of `number_text`; importing it needs numba.

Mantissa and power of ten are exact in float64 up to 2^53 and 10^22, so that their product or
quotient is the correctly rounded number (Clinger 1990, "How to read floating point numbers
accurately"). Whatever does not fit that is called irregular and left to Python.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

POWERS_OF_TEN = 10.0 ** np.arange(23)
EXACT_MANTISSA = 1 << 53
IRREGULAR = -1
MINUS, PLUS, POINT, COMMA, SPACE, ZERO, NINE, LETTER_E = 45, 43, 46, 44, 32, 48, 57, 101


@numba.njit(nogil=True, cache=True)
def parse_rows(buffer: Any, ends: Any, out: NDArray[np.float32], counts: Any) -> None:
    """Text r is buffer[ends[r - 1] : ends[r]], a row of numbers with commas between them.

    out (n, length) float32 takes the first `length` numbers of each; counts (n,) how many
    there are, IRREGULAR where a text holds anything but plain decimals.
    """
    start = 0
    for row in range(len(ends)):
        end = ends[row]
        while end > start and buffer[end - 1] <= SPACE:  # the line end
            end -= 1
        counts[row] = parse_row(buffer, start, end, out[row])
        start = ends[row]


@numba.njit(nogil=True, cache=True)
def parse_row(buffer: Any, at: int, end: int, out: NDArray[np.float32]) -> int:
    """Numbers found in buffer[at:end], or IRREGULAR."""
    found = 0
    while at < end:
        at, value = parse_number(buffer, at, end)
        if at < 0:
            return IRREGULAR
        if found < len(out):
            out[found] = value
        found += 1
        if at == end:
            return found
        if buffer[at] != COMMA:
            return IRREGULAR
        at += 1
        while at < end and buffer[at] == SPACE:
            at += 1
    return IRREGULAR  # empty, or a comma without a number after it


@numba.njit(nogil=True, cache=True)
def parse_number(buffer: Any, at: int, end: int) -> tuple[int, float]:
    """The position after the number that starts at `at`, and its value; IRREGULAR, 0 if none."""
    negative = buffer[at] == MINUS
    at += negative
    mantissa = np.int64(0)
    digits = exponent = 0
    after_point = False
    while at < end:
        byte = buffer[at]
        if ZERO <= byte <= NINE:
            mantissa = mantissa * 10 + (byte - ZERO)
            digits += 1
            exponent -= after_point
        elif byte == POINT and not after_point:
            after_point = True
        else:
            break
        at += 1
    if not 0 < digits < 19 or mantissa > EXACT_MANTISSA:
        return IRREGULAR, 0.0
    if at < end and (buffer[at] | 32) == LETTER_E:
        at, power = parse_exponent(buffer, at + 1, end)
        exponent += power
    if at < 0 or abs(exponent) > 22:
        return IRREGULAR, 0.0
    power_of_ten = POWERS_OF_TEN[abs(exponent)]
    value = mantissa * power_of_ten if exponent > 0 else mantissa / power_of_ten
    return at, -value if negative else value


@numba.njit(nogil=True, cache=True)
def parse_exponent(buffer: Any, at: int, end: int) -> tuple[int, int]:
    """The position after the one to three digits (with sign) at `at`, and their value."""
    sign = 1
    if at < end and (buffer[at] == MINUS or buffer[at] == PLUS):
        sign = -1 if buffer[at] == MINUS else 1
        at += 1
    first = at
    power = 0
    while at < end and ZERO <= buffer[at] <= NINE:
        power = power * 10 + (buffer[at] - ZERO)
        at += 1
    return (at, sign * power) if 0 < at - first < 4 else (IRREGULAR, 0)
