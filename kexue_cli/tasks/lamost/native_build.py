"""Compiling and loading native/trunk.cpp: once per machine, into the cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from kexue_cli.paths import cache_dir

SOURCE = Path(__file__).parent / "native" / "trunk.cpp"
FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-w")
POINTER, INT = ctypes.c_void_p, ctypes.c_int
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


class NotAvailable(Exception):
    """The native kernels cannot be had here; the message says why."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        NotAvailable: no AVX-512, no C++ compiler, or the compiler failed.
    """
    if "avx512f" not in processor_flags():
        raise NotAvailable("the processor has no AVX-512")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NotAvailable("no C++ compiler (g++ or clang++) was found")
    path = _library_path(compiler)
    if not path.exists():
        _compile(compiler, path)
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NotAvailable(f"{path} cannot be loaded ({error})") from error
    for name, (arguments, result) in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded


@functools.cache
def processor_flags() -> frozenset[str]:
    """Instruction sets by their Linux names; empty where they cannot be told."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _library_path(compiler: str) -> Path:
    """Named by everything the compiled file depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    sources = [path.read_text() for path in sorted(SOURCE.parent.iterdir())]
    parts = (*sources, version, *FLAGS, *sorted(processor_flags()))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_dir() / "native" / f"trunk-{digest}.so"


def _compile(compiler: str, path: Path) -> None:
    """Into a temporary name first, so that no other process loads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                last = (result.stderr.strip().splitlines() or ["no message"])[-1]
                raise NotAvailable(f"{compiler} failed: {last}")
            made.replace(path)
    except OSError as error:
        raise NotAvailable(f"{path} cannot be written ({error})") from error
