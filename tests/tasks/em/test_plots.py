"""What pictures and warnings say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kexue_cli.tasks.em import plots
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.models import Coins, Gmm
from kexue_cli.tasks.em.session import Session


def test_counts_are_drawn_as_shares_where_the_means_are() -> None:
    tosses = np.array([[5.0, 5.0], [9.0, 1.0]])
    shown, names = plots._comparable(Coins(), tosses, ["heads", "tails"])
    assert shown.tolist() == [[0.5, 0.5], [0.9, 0.1]]
    assert names == ["share of heads", "share of tails"]
    assert plots._comparable(Gmm(), tosses, ["a", "b"])[0] is tosses


@pytest.mark.parametrize(("reg_covar", "reason"), [(0.1, "model.reg_covar"), (0.0, "rounding")])
def test_a_rise_is_put_down_to_reg_covar_only_where_it_is_used(
    reg_covar: float, reason: str
) -> None:
    said: list[str] = []
    context: object = SimpleNamespace(console=SimpleNamespace(warn=said.append))
    session = Session(context, Engine())  # type: ignore[arg-type]
    session.complain_of_rises(reg_covar)
    assert said == []
    session._rises = 3
    session.complain_of_rises(reg_covar)
    assert len(said) == 1
    assert said[0].startswith("3 M-steps")
    assert reason in said[0]
    assert ("reg_covar" in said[0]) == (reg_covar > 0)


def test_numbers_below_the_bars_of_a_topic_do_not_touch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    figure = plots._figure

    def keep(*sizes: Any) -> Any:
        kept.append(figure(*sizes))
        return kept[-1]

    monkeypatch.setattr(plots, "_figure", keep)
    words = np.full((4, 30), 0.005)
    words[:, 0] = 0.0149, 0.0133, 0.0165, 0.0127
    rows = [{"topic": k, "share": 0.25} for k in range(4)]
    names = [f"westinghouse_{number}" for number in range(30)]
    model = SimpleNamespace(words=words, vocabulary=names, topic_rows=lambda: rows)
    plots._topics(model, tmp_path)
    _, axes = kept[0]
    for axis in axes.flat:
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        low, high = axis.get_window_extent().x0, axis.get_window_extent().x1
        seen = [box for box in boxes if low - 1 <= (box.x0 + box.x1) / 2 <= high + 1]
        assert len(seen) > 1
        assert all(a.x1 < b.x0 for a, b in pairwise(seen))
