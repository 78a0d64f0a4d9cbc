"""Predictions of runs, aligned by id: what blending starts from.

A member is one run, or all folds of one setting and seed: each id then has the mean of the runs
that predict it, and the validation rows of the folds together are out-of-fold predictions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kexue_cli.errors import UserError
from kexue_cli.manage.grouping import shared_overrides
from kexue_cli.manage.store import Run

if TYPE_CHECKING:
    import pandas as pd

COMPONENT = re.compile(r"probability_\d+")  # columns of task=em
NOT_CLASSES = ("id", "prediction", "target")


@dataclass
class Member:
    """Tables indexed by id; `valid` has the columns of the classes and "target"."""

    runs: list[Run]
    test: pd.DataFrame
    valid: pd.DataFrame | None
    classes: list[str]

    @property
    def name(self) -> str:
        """The first run's name, with the number of folds."""
        more = f" and {len(self.runs) - 1} folds" if len(self.runs) > 1 else ""
        return f"{self.runs[0].name}{more}"


def read_members(runs: Sequence[Run]) -> list[Member]:
    """Check that the runs belong together and read their predictions.

    Raises:
        UserError: unfinished runs, other data, other classes, other ids, mixtures' components.
    """
    _check_same_data(runs)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        key = _setting_and_seed(run) if _is_fold(run) else (str(run.path),)
        groups.setdefault(key, []).append(run)
    members = [_read(group) for group in groups.values()]
    _check_same_classes(members)
    _check_same_ids(members)
    return members


def _is_fold(run: Run) -> bool:
    return run.config.get("data.fold") is not None


def _setting_and_seed(run: Run) -> tuple[str, ...]:
    return (*shared_overrides(run.record.get("overrides") or []), f"seed={run.record.get('seed')}")


def _check_same_data(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.status != "done":
            raise UserError(f"{run.path} is {run.status}: only finished runs can be blended")
        for key in ("task", "data_fingerprint"):
            if run.record.get(key) != first.record.get(key):
                raise UserError(
                    f"{run.path} and {first.path} have different data: {key} is "
                    f"{_short(run.record.get(key))} and {_short(first.record.get(key))}. "
                    "Blend runs of the same data only"
                )


def _short(value: object) -> str:
    return str(value)[:12]


def _read(runs: list[Run]) -> Member:
    tests = [_table(run, "predictions.csv") for run in runs]
    valids = [_table(run, "predictions_valid.csv") for run in runs]
    present = [table for table in valids if table is not None]
    first = tests[0]
    if first is None or any(table is None for table in tests):
        lacking = next(run for run, table in zip(runs, tests, strict=True) if table is None)
        raise UserError(f"{lacking.path} has no predictions.csv: run it with mode=predict first")
    classes = [str(name) for name in first.columns if name not in NOT_CLASSES]
    _check_probabilities(first, classes, runs[0])
    valid = _mean_by_id(present, classes, runs) if len(present) == len(runs) else None
    whole = [table for table in tests if table is not None]
    return Member(runs, _mean_by_id(whole, classes, runs), valid, classes)


def _table(run: Run, name: str) -> pd.DataFrame | None:
    import pandas as pd

    path = run.path / name
    if not path.exists():
        return None
    try:
        text = {"id": str, "prediction": str, "target": str}
        table = pd.read_csv(path, dtype=text, keep_default_na=False)  # "NA" may be a class
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if "id" not in table.columns:
        raise UserError(f"{path} has no column id")
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise UserError(f"{path}: id {twice!r} occurs twice")
    if "target" in table.columns:
        table["target"] = table["target"].where(table["target"] != "")
    return table.set_index("id")


def _check_probabilities(table: pd.DataFrame, classes: list[str], run: Run) -> None:
    import pandas as pd

    if classes and all(COMPONENT.fullmatch(name) for name in classes):
        raise UserError(
            f"{run.path}/predictions.csv: its columns {', '.join(classes[:4])} are components of a "
            "mixture, which every run numbers in its own order: their mean says nothing. Blend "
            "runs that predict classes"
        )
    numeric = all(pd.api.types.is_numeric_dtype(table[name]) for name in classes)
    if len(classes) < 2 or not numeric:
        raise UserError(
            f"{run.path}/predictions.csv has no probabilities: blending needs one numeric column "
            "per class beside id and prediction"
        )
    values = table[classes].to_numpy()
    if not ((values >= 0).all() and abs(values.sum(axis=1) - 1).max() < 1e-2):
        raise UserError(
            f"{run.path}/predictions.csv: its columns {', '.join(classes[:4])} are no "
            "probabilities (not ≥ 0, or a row does not sum to 1)"
        )


def _mean_by_id(
    tables: Sequence[pd.DataFrame], classes: list[str], runs: list[Run]
) -> pd.DataFrame:
    """Mean over the tables that have an id, in the order of first appearance."""
    import pandas as pd

    for table, run in zip(tables, runs, strict=True):
        if any(name not in table.columns for name in classes):
            raise UserError(f"{run.path} has other classes than {runs[0].path}")
    joined = pd.concat(tables)
    by_id = joined.groupby(level="id", sort=False)
    result = by_id[classes].mean()
    if "target" in joined.columns:
        if by_id["target"].nunique().max() > 1:
            raise UserError(f"{runs[0].path} and its folds disagree about the target of an id")
        result["target"] = by_id["target"].first()
    return result


def _check_same_classes(members: Sequence[Member]) -> None:
    first = members[0]
    for member in members:
        if member.classes != first.classes:
            raise UserError(
                f"{member.name} has the classes {', '.join(member.classes)}, "
                f"{first.name} has {', '.join(first.classes)}"
            )


def _check_same_ids(members: Sequence[Member]) -> None:
    first = members[0]
    for member in members[1:]:
        different = member.test.index.symmetric_difference(first.test.index)
        if len(different):
            raise UserError(
                f"{member.name} and {first.name} predict different ids "
                f"({len(different)} of them, such as {different[0]!r}). Give runs of the same test "
                "set, or all folds of each setting"
            )


def common_validation_ids(members: Sequence[Member]) -> list[str]:
    """Ids that no member was trained on: validation rows of all of them, in the first one's order.

    Runs whose seeds split the data differently still have some in common.
    """
    if any(member.valid is None or "target" not in member.valid for member in members):
        return []
    indices = [member.valid.index for member in members if member.valid is not None]
    common = set(indices[0]).intersection(*map(set, indices[1:]))
    return [str(identifier) for identifier in indices[0] if identifier in common]
