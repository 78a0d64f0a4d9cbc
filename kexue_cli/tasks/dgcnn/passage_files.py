"""Passages of a question from the shell: a text file, one passage to a line."""

from __future__ import annotations

from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.text_files import as_text


def read_passages(path: Path) -> dict[int, str]:
    """The lines that are not blank, by their numbers.

    Raises:
        UserError: no such file, not UTF-8, or nothing in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"passages={path}: cannot be read ({error.strerror})") from error
    text = as_text(content, f"passages={path}")
    # Not splitlines(), which cuts at U+2028, form feeds and the like within a passage, too.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    passages = {i: line.strip() for i, line in enumerate(lines, start=1) if line.strip()}
    if not passages:
        raise UserError(f"passages={path}: holds no text; expected one passage to a line")
    return passages
