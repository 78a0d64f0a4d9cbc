from __future__ import annotations

from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import query, store
from tests.fake_runs import write_run


@pytest.fixture
def runs(root: Path) -> list[store.Run]:
    for i in range(6):
        write_run(
            root / "lamost/conv1d_res" / f"2026-11-20_10-00-0{i}-aaaa",
            seed=i,
            value=0.5 + i / 10,
            started=f"2026-11-2{i}T10:00:00+00:00",
            settings={"model.filters": 16 if i < 3 else 32},
        )
    write_run(root / "em/gmm/2026-11-20_12-00-00-bbbb", task="em", model="gmm", status="failed")
    return store.find_runs(root)


@pytest.mark.parametrize(
    ("terms", "seeds"),
    [
        (["task=lamost", "valid/macro_f1>0.8"], [4, 5]),
        (["valid/macro_f1>=0.8", "seed!=5"], [3, 4]),
        (["model=conv*", "seed<2"], [0, 1]),
        (["model.filters=16"], [0, 1, 2]),
        (["primary<=0.6"], [0, 1]),
        (["started>2026-11-23"], [3, 4, 5]),
        (["status=failed"], [0]),
        (["model.filters!=16", "task=lamost"], [3, 4, 5]),
    ],
)
def test_conditions_select(runs: list[store.Run], terms: list[str], seeds: list[int]) -> None:
    assert sorted(run.record["seed"] for run in query.select(runs, terms)) == seeds


def test_unknown_key_names_the_nearest(runs: list[store.Run]) -> None:
    with pytest.raises(UserError, match=r"model\.filterz.*model\.filters"):
        query.select(runs, ["model.filterz=3"])


def test_a_word_that_is_no_condition_is_refused(runs: list[store.Run]) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        query.select(runs, ["lamost"])


def test_sorting_puts_runs_without_the_key_last(runs: list[store.Run]) -> None:
    ordered = query.sort(runs, "-valid/macro_f1")
    assert [run.record["seed"] for run in ordered] == [5, 4, 3, 2, 1, 0, 0]
    assert ordered[-1].record["task"] == "em"


def test_a_key_with_no_values_in_the_selection_is_no_error(runs: list[store.Run]) -> None:
    assert query.select(runs, ["task=em", "valid/macro_f1>0.5"]) == []
