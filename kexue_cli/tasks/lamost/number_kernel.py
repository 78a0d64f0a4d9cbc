"""The compiled half of `number_text`; importing it needs numba.

Mantissa and power of ten are exact in float64 up to 2^53 and 10^22, so that their product or
quotient is the correctly rounded number (Clinger 1990, "How to read floating point numbers
accurately"). Whatever does not fit that is called irregular and left to Python.

Positions are unsigned: a signed index costs a test for negative values at every byte, and the
parser three times its speed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

U = np.uint64
POWERS_OF_TEN = 10.0 ** np.arange(23)
EXACT_MANTISSA = U(1 << 53)
MOST_DIGITS = U(18)  # more could overflow the mantissa
IRREGULAR = -1
MINUS, PLUS, POINT, COMMA, SPACE, LETTER_E = 45, 43, 46, 44, 32, 101
ZERO, NINE = U(48), U(9)


@numba.njit(nogil=True, cache=True)
def parse_rows(buffer: Any, ends: Any, out: NDArray[np.float32], counts: Any) -> None:
    """Text r ends before buffer[ends[r]]: a row of numbers with commas between them.

    Every text is followed by a line end. out (n, length) float32 takes the first `length`
    numbers of each; counts (n,) how many there are, IRREGULAR where a text holds anything but
    plain decimals.
    """
    start = U(0)
    for row in range(len(ends)):
        end = U(ends[row])
        while end > start and buffer[end - U(1)] <= SPACE:  # its own line end
            end -= U(1)
        counts[row] = parse_row(buffer, start, end, out[row])
        start = U(ends[row]) + U(1)


@numba.njit(nogil=True, cache=True)
def parse_row(buffer: Any, at: Any, end: Any, out: NDArray[np.float32]) -> int:
    """Numbers found in buffer[at:end], or IRREGULAR."""
    found = 0
    while at < end:
        at, value, regular = parse_number(buffer, at)
        if not regular:
            return IRREGULAR
        if found < len(out):
            out[found] = value
        found += 1
        if at == end:
            return found
        if buffer[at] != COMMA:
            return IRREGULAR
        at += U(1)
        while buffer[at] == SPACE:
            at += U(1)
    return IRREGULAR  # empty, or a comma without a number after it


@numba.njit(nogil=True, cache=True)
def parse_number(buffer: Any, at: Any) -> tuple[Any, float, bool]:
    """The position after the number at `at`, its value, and whether it is regular."""
    negative = buffer[at] == MINUS
    at += U(negative)
    first = at
    at, mantissa = parse_digits(buffer, at, U(0))
    digits = at - first
    exponent = np.int64(0)
    if buffer[at] == POINT:
        point = at
        at, mantissa = parse_digits(buffer, at + U(1), mantissa)
        decimals = at - point - U(1)
        digits += decimals
        exponent = -np.int64(decimals)
    regular = U(0) < digits <= MOST_DIGITS and mantissa <= EXACT_MANTISSA
    if regular and (buffer[at] | 32) == LETTER_E:
        at, power, regular = parse_exponent(buffer, at + U(1))
        exponent += power
    if not regular or abs(exponent) > 22:
        return at, 0.0, False
    value = np.float64(np.int64(mantissa))
    power_of_ten = POWERS_OF_TEN[U(abs(exponent))]
    value = value * power_of_ten if exponent > 0 else value / power_of_ten
    return at, -value if negative else value, True


@numba.njit(nogil=True, cache=True)
def parse_digits(buffer: Any, at: Any, number: Any) -> tuple[Any, Any]:
    """The position after the digits at `at`, and `number` with them appended."""
    while True:
        digit = U(buffer[at]) - ZERO  # far above 9 for bytes below "0"
        if digit > NINE:
            return at, number
        number = number * U(10) + digit
        at += U(1)


@numba.njit(nogil=True, cache=True)
def parse_exponent(buffer: Any, at: Any) -> tuple[Any, np.int64, bool]:
    """The position after an exponent of one to three digits, its value, whether it is one."""
    falling = buffer[at] == MINUS
    at += U(falling or buffer[at] == PLUS)
    first = at
    at, power = parse_digits(buffer, at, U(0))
    regular = U(0) < at - first < U(4)
    return at, -np.int64(power) if falling else np.int64(power), regular
