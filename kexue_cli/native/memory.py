"""The C library's heap."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
LARGEST_KEPT, MOST_KEPT = 32 * 2**20, 2**30  # bytes; glibc allows no larger block


def keep_freed_memory() -> None:
    """Let freed blocks of up to 32 MiB be used again, 1 GiB in all, where the C library is glibc.

    Else it hands them back to the system after every training step, and each page of the next
    step's is faulted in and cleared anew: of a step of 2 ms that is a quarter.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
