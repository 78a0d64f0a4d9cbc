"""Runs of task=vae in the test's own process, as the command line starts them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

from kexue_cli.cli import main


class Finished(NamedTuple):
    """What a process would have left: exit status, and all that was printed."""

    returncode: int
    printed: str


def run(folder: Path, *words: str) -> Finished:
    """`kexue-run <words> run_dir=<folder>`."""
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main([*words, f"run_dir={folder}"])
        except SystemExit as end:
            code = int(end.code or 0) if not isinstance(end.code, str) else 1
    return Finished(code, " ".join(out.getvalue().split()))
