"""Whole files of text and JSON, what is wrong with them in plain words."""

from __future__ import annotations

import json
from typing import Any

from kexue_cli.errors import UserError


def as_text(content: bytes, place: str) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        UserError: it is not; the line is named.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise UserError(f"{place}, line {line}: not UTF-8; save the file as UTF-8") from error


def as_json(text: str, place: str) -> Any:
    """The value; every key of an object comes once.

    Raises:
        UserError: it is not JSON; the line is named where it is known.
    """
    try:
        return json.loads(text, object_pairs_hook=with_each_key_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}, line {error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # also a number too long, or too deep a value
        raise UserError(f"{place}: {error}; mend the file") from error


def with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these; a ValueError if a key comes twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} comes twice")
        found[key] = value
    return found
