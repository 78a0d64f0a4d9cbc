"""Passages of a question from the shell: a text file, one passage to a line."""

from __future__ import annotations

from pathlib import Path

from kexue_cli.errors import UserError


def read_passages(path: Path) -> list[str]:
    """The lines that are not empty.

    Raises:
        UserError: no such file, not UTF-8, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"passages={path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"passages={path}: not UTF-8 at byte {error.start}") from error
    passages = [line.strip() for line in lines if line.strip()]
    if not passages:
        raise UserError(f"passages={path}: holds no text; expected one passage to a line")
    return passages
