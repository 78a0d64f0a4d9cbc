"""The kernels of native/layers.cpp: building, what they take, and their dropout."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER

SOURCE = Path(__file__).parent / "native" / "layers.cpp"
SIGNATURES: build.Signatures = {
    "has_bfloat16": ((), INT),
    "gated_forward": ((INT, *[POINTER] * 7), None),
    "gated_backward": ((INT, *[POINTER] * 9), None),
    "attention_forward": ((INT, *[POINTER] * 5), None),
    "attention_backward": ((INT, *[POINTER] * 6), None),
    "embedding_forward": ((INT, *[POINTER] * 5), None),
    "embedding_backward": ((INT, *[POINTER] * 5), None),
}


class Dropout(ctypes.Structure):
    """`Dropout` of dropout.h: who is dropped follows from the key."""

    _fields_ = (
        ("key", ctypes.c_uint32 * 2),
        ("threshold", ctypes.c_uint32),
        ("scale", ctypes.c_float),
    )


def draw_dropout(share: float) -> Dropout:
    """A key from torch's global generator; shares are multiples of 1 / 65,536."""
    threshold = round(share * 2**16)
    key = torch.randint(2**32, (2,)).tolist() if threshold else [0, 0]
    return Dropout((ctypes.c_uint32 * 2)(*key), threshold, 1 / (1 - threshold / 2**16))


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        NotAvailable: no AVX-512, no C++ compiler, or the compiler failed.
    """
    return build.load(SOURCE, SIGNATURES, "-fopenmp")


def number_format() -> torch.dtype | None:
    """That of the kernels at this place: bfloat16 under autocast; None: they have it not."""
    if torch.compiler.is_compiling():
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32
    fast = torch.get_autocast_dtype("cpu") == torch.bfloat16
    return torch.bfloat16 if fast and library().has_bfloat16() else None


def call(name: str, dtype: torch.dtype, shape: ctypes.Structure, *tensors: Tensor | None) -> None:
    """A kernel in a number format; the tensors must be contiguous."""
    places = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    getattr(library(), name)(int(dtype == torch.bfloat16), ctypes.byref(shape), *places)
