"""What pictures and warnings say."""

from __future__ import annotations

from types import SimpleNamespace

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
