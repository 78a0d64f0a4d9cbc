"""All kernels compile for processors other than the one at hand."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import kexue_cli
from kexue_cli.native import build

PACKAGE = Path(kexue_cli.__file__).parent
SOURCES = sorted(PACKAGE.rglob("native/*.cpp"))
PROCESSORS = {
    "AVX-512 alone": "-march=skylake-avx512",
    "AVX-512 with bfloat16": "-march=cooperlake",
    "AVX-512 with tile registers": "-march=sapphirerapids",
}


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no C++ compiler for x86-64")
    return found


def test_every_room_with_kernels_is_found() -> None:
    assert {source.parts[-3] for source in SOURCES} >= {
        "train",
        "vae",
        "lamost",
        "em",
        "dgcnn",
        "gpt2",
    }


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.parts[-3])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_compile_for(processor: str, source: Path) -> None:
    flags = [flag for flag in build.FLAGS if not flag.startswith(("-march", "-O"))]
    command = [compiler(), *flags, "-fopenmp", PROCESSORS[processor], "-fsyntax-only", str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_compiler_that_fails_is_quoted_with_its_first_error(tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("// a comment\nint f() { return missing_name; }\n")
    with pytest.raises(build.NotAvailable, match=r"broken\.cpp:2.*missing_name"):
        build._compile(compiler(), source, tmp_path / "broken.so", ())
