"""The kernels of native/trunk.cpp with their types, compiled once per machine."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER

SOURCE = Path(__file__).parent / "native" / "trunk.cpp"
SIGNATURES = {
    "trunk_has_bfloat16": ((), INT),
    "trunk_plan": ((INT, INT, INT, INT, POINTER, INT, POINTER), POINTER),
    "trunk_free": ((POINTER,), None),
    "trunk_record_bytes": ((POINTER,), ctypes.c_int64),
    "trunk_packed_bytes": ((POINTER,), ctypes.c_int64),
    "trunk_gradient_floats": ((POINTER,), ctypes.c_int64),
    "trunk_pack": ((POINTER, POINTER, POINTER), None),
    "trunk_forward": ((POINTER, POINTER, POINTER, INT, POINTER, INT, POINTER), None),
    "trunk_backward": ((POINTER, POINTER, POINTER, INT, POINTER, POINTER), None),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        NotAvailable: no AVX-512, no C++ compiler, or the compiler failed.
    """
    return build.load(SOURCE, SIGNATURES)
