"""Conditions on runs as a user types them: task=lamost 'valid/macro_f1>0.8' seed!=0 model=conv*."""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.manage.store import Run

TERM = re.compile(r"\s*([^\s<>=!~]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*$")
ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Condition:
    """One term: `key` is a field of run.json, split/metric, "primary", or a dotted config key."""

    key: str
    operation: str
    value: str

    def holds(self, run: Run) -> bool:
        """Whether the run fulfils it; a run that lacks the key fulfils only "!="."""
        found = value_of(run, self.key)
        if self.operation in ORDERED:
            return found is not None and _ordered(self.operation, found, self.value)
        equal = _equal(found, self.value)
        return equal if self.operation in ("=", "==") else not equal


def parse(terms: Iterable[str]) -> list[Condition]:
    """Conditions from the command line.

    Raises:
        UserError: a term that is not KEY=VALUE or another comparison.
    """
    conditions = []
    for term in terms:
        match = TERM.match(term)
        if match is None:
            raise UserError(
                f"{term!r} is no condition: expected KEY=VALUE (also != > < >= <=), "
                "such as task=lamost or 'valid/macro_f1>0.8'"
            )
        conditions.append(Condition(*match.groups()))
    return conditions


def select(runs: Sequence[Run], terms: Iterable[str]) -> list[Run]:
    """The runs that fulfil every term.

    Raises:
        UserError: a malformed term, or a key which no run has (with the nearest that one has).
    """
    kept = list(runs)
    for condition in parse(terms):
        nobody = all(value_of(run, condition.key) is None for run in kept)
        if kept and nobody and not any(has_key(run, condition.key) for run in runs):
            raise UserError(f"no run has {condition.key!r}. {_nearest(condition.key, runs)}")
        kept = [run for run in kept if condition.holds(run)]
    return kept


def sort(runs: Sequence[Run], key: str) -> list[Run]:
    """Runs by a key, a leading "-" for descending; runs without the key come last."""
    name, descending = key.removeprefix("-"), key.startswith("-")
    having = [run for run in runs if value_of(run, name) is not None]
    lacking = [run for run in runs if value_of(run, name) is None]
    if runs and not having and not any(has_key(run, name) for run in runs):
        raise UserError(f"no run has {name!r}. {_nearest(name, runs)}")
    numeric = all(isinstance(value_of(run, name), (int, float)) for run in having)
    rank = (lambda run: value_of(run, name)) if numeric else (lambda run: str(value_of(run, name)))
    return sorted(having, key=rank, reverse=descending) + lacking


def value_of(run: Run, key: str) -> Any:
    """What a run has under a key, None if nothing."""
    if key == "status":
        return run.status
    if key in ("name", "path", "problem"):
        return str(getattr(run, key)) if getattr(run, key) is not None else None
    if key == "primary":
        return run.primary.get("value")
    split, slash, metric = key.partition("/")
    if slash:
        return run.splits.get(split, {}).get(metric)
    if key in run.record:
        return run.record[key]
    return run.config.get(key)


def has_key(run: Run, key: str) -> bool:
    """Whether a run knows the key at all, even without a value."""
    return value_of(run, key) is not None or key in run.record or key in run.config


def _ordered(operation: str, found: Any, wanted: str) -> bool:
    number = _number(wanted)
    if isinstance(found, (int, float)) and number is not None:
        return ORDERED[operation](found, number)
    # Times are ISO strings: 'started>2026-11-20' compares as text.
    return isinstance(found, str) and number is None and ORDERED[operation](found, wanted)


def _equal(found: Any, wanted: str) -> bool:
    number = _number(wanted)
    if isinstance(found, bool):
        return str(found).lower() == wanted.lower()
    if isinstance(found, (int, float)) and number is not None:
        return found == number
    text = "null" if found is None else str(found)
    return fnmatch.fnmatchcase(text, wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _nearest(key: str, runs: Sequence[Run]) -> str:
    known = {"status", "primary", "name"}
    for run in runs[-20:]:
        known.update(run.record, run.config)
        known.update(f"{split}/{name}" for split, row in run.splits.items() for name in row)
    close = difflib.get_close_matches(key, sorted(known), n=3, cutoff=0.5)
    return (
        f"Did you mean {' or '.join(close)}?" if close else "`kexue show RUN` lists what there is"
    )
