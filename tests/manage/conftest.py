from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_cli.manage import cli


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def kexue(root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `kexue …` in this process: exit status, stdout, stderr."""

    def call(*words: object, with_root: bool = True) -> tuple[int, str, str]:
        arguments = [str(word) for word in words]
        code = cli.main(arguments + (["--root", str(root)] if with_root else []))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
