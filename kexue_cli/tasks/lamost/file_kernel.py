"""Reading many small files without the interpreter's lock; importing it needs numba.

Opening, reading and closing a file through Python takes and gives the lock six times, and
threads spend more time handing it over than reading. Here compiled code calls the C library.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

O_RDONLY = os.O_RDONLY
LINE_END = 10

_libc = ctypes.CDLL(None)
_open, _read, _close = _libc.open, _libc.read, _libc.close
_open.argtypes, _open.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
_read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_read.restype = ctypes.c_ssize_t
_close.argtypes, _close.restype = [ctypes.c_int], ctypes.c_int


def read_files(
    paths: list[str], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Contents of files of known size, one after the other, each followed by a line end.

    Returns:
        The bytes, and where each file ends in them; None if any file cannot be read whole.
    """
    names = [os.fsencode(path) + b"\0" for path in paths]
    starts = np.cumsum([0, *map(len, names)])[:-1]
    ends = np.cumsum(sizes + 1) - 1
    buffer = np.empty(ends[-1] + 1, dtype=np.uint8)
    if _fill(np.frombuffer(b"".join(names), dtype=np.uint8), starts, ends, buffer):
        return buffer, ends
    return None


@numba.njit(nogil=True)
def _fill(names: Any, starts: Any, ends: Any, buffer: Any) -> bool:
    at = 0
    for row in range(len(starts)):
        descriptor = _open(names.ctypes.data + starts[row], O_RDONLY)
        if descriptor < 0:
            return False
        while at < ends[row]:
            taken = _read(descriptor, buffer.ctypes.data + at, ends[row] - at)
            if taken <= 0:
                break
            at += taken
        _close(descriptor)
        if at < ends[row]:
            return False
        buffer[at] = LINE_END
        at += 1
    return True
