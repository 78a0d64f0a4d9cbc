"""Compiling and loading C++ kernels: once per machine, into the cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kexue_cli.paths import cache_dir

SHARED = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-w")
POINTER, INT = ctypes.c_void_p, ctypes.c_int
Signatures = Mapping[str, tuple[tuple[Any, ...], Any]]


class NotAvailable(Exception):
    """The native kernels cannot be had here; the message says why."""


def load(source: Path, signatures: Signatures, *flags: str) -> ctypes.CDLL:
    """The compiled `source`, with argument and result types set.

    `signatures`: function name → (argument types, result type); `flags`: more for the compiler.

    Raises:
        NotAvailable: no AVX-512, no C++ compiler, or the compiler failed.
    """
    if "avx512f" not in processor_flags():
        raise NotAvailable("the processor has no AVX-512")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NotAvailable("no C++ compiler (g++ or clang++) was found")
    path = _library_path(compiler, source, flags)
    if not path.exists():
        _compile(compiler, source, path, flags)
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NotAvailable(f"{path} cannot be loaded ({error})") from error
    for name, (arguments, result) in signatures.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded


def obstacle(library: Callable[[], ctypes.CDLL]) -> str | None:
    """Why `library`, which calls `load`, cannot give its kernels here, or None."""
    try:
        library()
    except NotAvailable as error:
        return str(error)
    return None


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


def _library_path(compiler: str, source: Path, flags: tuple[str, ...]) -> Path:
    """Named by everything the compiled file depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    files = [*sorted(source.parent.iterdir()), *sorted(SHARED.glob("*.h"))]
    parts = (
        *(path.read_text() for path in files),
        version,
        *FLAGS,
        *flags,
        *sorted(processor_flags()),
    )
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_dir() / "native" / f"{source.stem}-{digest}.so"


def _compile(compiler: str, source: Path, path: Path, flags: tuple[str, ...]) -> None:
    """Into a temporary name first, so that no other process loads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            command = [compiler, *FLAGS, *flags, str(source), "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise NotAvailable(f"{compiler} failed: {_first_error(result.stderr)}")
            made.replace(path)
    except OSError as error:
        raise NotAvailable(f"{path} cannot be written ({error})") from error


def _first_error(messages: str) -> str:
    """The line of a compiler's messages that says what is wrong."""
    lines = messages.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line), lines[-1])
