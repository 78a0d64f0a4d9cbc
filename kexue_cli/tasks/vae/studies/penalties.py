"""Post I: separate penalties on mean and log sigma^2 need a weight; the KL has it built in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.studies import common
from kexue_cli.tasks.vae.studies.common import rows

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

__all__ = ["groups", "rows"]
DEFAULT_WEIGHTS = [0.01, 0.1, 0.5, 1.0, 10.0]


def groups(task: VaeTask) -> list[Group]:
    """The KL, and |mean|^2/2 + w |log sigma^2|^2/2 for several w."""
    weights = list(task.cfg.task.study_values or DEFAULT_WEIGHTS)
    penalised = common.beside(task, "weight", weights, objective="two_penalties")
    for cell, weight in zip(penalised.cells, weights, strict=True):
        cell.clear()
        cell["penalty"] = f"mean^2/2 + {weight:g} logvar^2/2"
    return [common.single(task, {"penalty": "KL"}, task.recipe()), penalised]
