"""Published numbers beside those obtained: an experiment states them, run.json keeps them."""

from __future__ import annotations

from typing import Any

from kexue_cli.manage.store import Run
from kexue_cli.manage.tables import Row


def published_rows(run: Run) -> list[Row]:
    """One row per published number: metric, published, obtained, difference, source.

    `expected` of run.json maps split/metric to {"value", "source"} or to a bare number.
    """
    rows: list[Row] = []
    for key, stated in (run.record.get("expected") or {}).items():
        value, source = _value_and_source(stated)
        obtained = _obtained(run, str(key))
        both = isinstance(value, (int, float)) and isinstance(obtained, (int, float))
        rows.append(
            {
                "metric": key,
                "published": value,
                "obtained": obtained,
                "difference": obtained - value if both else None,
                "source": source,
            }
        )
    return rows


def _value_and_source(stated: Any) -> tuple[Any, Any]:
    if isinstance(stated, dict):
        return stated.get("value"), stated.get("source")
    return stated, None


def _obtained(run: Run, key: str) -> Any:
    split, _, metric = key.partition("/")
    return run.splits.get(split, {}).get(metric)
