"""Post II, "sample once": k draws per image at equal epochs and at equal decoder passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.studies import common
from kexue_cli.tasks.vae.studies.common import rows

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

__all__ = ["groups", "rows"]
DEFAULT_K = (1, 5, 50)


def groups(task: VaeTask) -> list[Group]:
    """Every k for all epochs; those above the first also for epochs / k: equal decoder passes."""
    steps = task.epochs * task.batches.per_epoch
    found = []
    for k in (int(value) for value in task.cfg.task.study_values or DEFAULT_K):
        name = {"k": k, "compared at": "equal epochs", "epochs": float(task.epochs)}
        found.append(common.single(task, name, task.recipe(samples=k)))
        if k > 1:
            name = {"k": k, "compared at": "equal decoder passes", "epochs": task.epochs / k}
            found.append(common.single(task, name, task.recipe(samples=k, last_step=steps // k)))
    return found
