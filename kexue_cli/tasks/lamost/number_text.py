"""Numbers written as comma-separated text, parsed to float32.

A text of 2,600 numbers takes Python's parsers a millisecond, and a contest set has half a
million of them. Where numba is installed plain decimals are parsed by machine code to the
same bits; everything else goes the slow way, which also says what is wrong.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray


def parse_rows(texts: Sequence[bytes], out: NDArray[np.float32]) -> list[tuple[int, str]]:
    """Parse one row of numbers from each text into out (n, length).

    Returns:
        Row number and complaint for each text that does not hold `length` numbers.
    """
    counts = np.full(len(texts), -1, dtype=np.int64)
    if compiled():
        from kexue_cli.tasks.lamost.number_kernel import parse_rows as parse

        buffer = np.frombuffer(b"\n".join([*texts, b""]), dtype=np.uint8)
        parse(buffer, np.cumsum([len(text) + 1 for text in texts]) - 1, out, counts)
    complaints = []
    for row in np.flatnonzero(counts != out.shape[1]).tolist():
        complaint = parse_slowly(texts[row], out[row])
        if complaint is not None:
            complaints.append((row, complaint))
    return complaints


def parse_files(paths: list[str], sizes: NDArray[np.int64], out: NDArray[np.float32]) -> bool:
    """Read files of known size and parse one row of numbers from each into out (n, length).

    Returns:
        Whether that went well. If not (or without numba), `parse_rows` tells what is wrong.
    """
    if not compiled():
        return False
    from kexue_cli.tasks.lamost.file_kernel import read_files
    from kexue_cli.tasks.lamost.number_kernel import parse_rows as parse

    found = read_files(paths, sizes)
    if found is None:
        return False
    counts = np.empty(len(paths), dtype=np.int64)
    parse(*found, out, counts)
    return bool((counts == out.shape[1]).all())


@cache
def compiled() -> bool:
    """Whether numba is there to compile the parser.

    Compiled code runs without the interpreter's lock, so that threads share the work.
    """
    return importlib.util.find_spec("numba") is not None


def parse_slowly(text: bytes, out: NDArray[np.float32]) -> str | None:
    """Parse one text into out (length,); returns what is wrong with it, or None.

    Numbers may be separated by commas, blanks or line ends, stand in brackets, and be nan.
    """
    decoded = text.decode("utf-8", errors="replace").strip().strip("[]")
    words = decoded.replace(",", " ").split()
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        word = next(word for word in words if not _is_number(word))
        return f"{word[:40]!r} is not a number"
    if len(values) != len(out):
        return f"expected {len(out)} numbers, found {len(values) or 'none: it is empty'}"
    with np.errstate(over="ignore"):
        out[:] = values
    if (lost := np.isinf(out) & np.isfinite(values)).any():
        return f"{words[int(lost.argmax())][:40]!r} is too large for float32 (3.4e38)"
    return None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
