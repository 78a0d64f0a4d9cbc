"""Freed memory is kept by the process and used again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from kexue_cli.native.memory import keep_freed_memory
keep_freed_memory()
def use():
    arrays = [np.empty(2**18) for _ in range(8)]  # 2 MiB each
    for array in arrays:
        array.fill(1.0)
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_arrays_in_place_of_freed_ones_fault_no_pages() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pages = 20 * 8 * 2**21 // 4096
    assert int(done.stdout) < pages // 100
