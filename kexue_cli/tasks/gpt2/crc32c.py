"""CRC-32C (Castagnoli) of large buffers with NumPy alone.

A CRC register is linear over GF(2), so a buffer is cut into thousands of equal lanes whose
registers advance together, one table lookup per two bytes, and are then joined pairwise: the
register of A‖B is the register of A fed with len(B) zero bytes, xor the register of B.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed
LANES = 8192
LANE_BYTES = 2048
MASK_DELTA = 0xA282EAD8

Registers = NDArray[np.uint32]


def crc32c(data: bytes | memoryview | NDArray[np.uint8], start: int = 0) -> int:
    """CRC-32C of `data`; `start` is the CRC of the bytes before it."""
    view = np.frombuffer(data, dtype=np.uint8)
    register = start ^ 0xFFFFFFFF
    chunk = LANES * LANE_BYTES
    for begin in range(0, len(view) - chunk + 1, chunk):
        joined = _join(_lane_registers(view[begin : begin + chunk]), LANE_BYTES)
        register = int(_apply(_zeros_operator(chunk), np.array([register], np.uint32))[0]) ^ joined
    tail = view[len(view) - len(view) % chunk :]
    return _feed(register, tail) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """LevelDB's stored form of a CRC: rotated right by 15 bits plus a constant."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def _feed(register: int, tail: NDArray[np.uint8]) -> int:
    """Advance one register over fewer than LANES * LANE_BYTES bytes."""
    lane = len(tail) // LANES & ~1
    if lane:
        body = lane * LANES
        joined = _join(_lane_registers(tail[:body]), lane)
        register = int(_apply(_zeros_operator(body), np.array([register], np.uint32))[0]) ^ joined
        tail = tail[body:]
    table = _byte_table()
    for byte in tail.tobytes():
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register


def _lane_registers(data: NDArray[np.uint8]) -> Registers:
    """Registers, started from zero, of LANES equal pieces of `data`."""
    steps = np.ascontiguousarray(data.view("<u2").reshape(LANES, -1).T)  # (pair of bytes, lane)
    table = _pair_table()
    registers = np.zeros(LANES, np.uint32)
    for pair in steps:
        registers = table[(registers ^ pair) & 0xFFFF] ^ registers >> np.uint32(16)
    return registers


def _join(registers: Registers, lane_bytes: int) -> int:
    """Register of all lanes one after the other."""
    while len(registers) > 1:
        registers = _apply(_zeros_operator(lane_bytes), registers[::2]) ^ registers[1::2]
        lane_bytes *= 2
    return int(registers[0])


def _apply(operator: Registers, registers: Registers) -> Registers:
    """Multiply each register by a 32x32 matrix over GF(2) given by its columns."""
    bits = registers[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)  # (register, bit)
    product: Registers = np.bitwise_xor.reduce(bits * operator, axis=1)
    return product


@cache
def _zeros_operator(n_bytes: int) -> Registers:
    """Columns of the matrix that feeds `n_bytes` zero bytes, by repeated squaring."""
    if n_bytes == 1:
        basis = [1 << bit for bit in range(32)]
        return np.array([value >> 8 ^ _byte_table()[value & 0xFF] for value in basis], np.uint32)
    half = _zeros_operator(n_bytes // 2)
    even = _apply(half, half)
    return even if n_bytes % 2 == 0 else _apply(_zeros_operator(1), even)


@cache
def _byte_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


@cache
def _pair_table() -> Registers:
    """Register after the two bytes v & 255 and v >> 8, for every v below 65536."""
    table = np.array(_byte_table(), np.uint32)
    values = np.arange(65536, dtype=np.uint32)
    first = table[values & 0xFF] ^ values >> np.uint32(8)
    second: Registers = table[first & 0xFF] ^ first >> np.uint32(8)
    return second
