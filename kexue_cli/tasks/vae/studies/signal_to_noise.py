"""Post III: with k the IWAE's decoder gradient gets clearer, its encoder gradient drowns.

Rainforth et al. 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.gradients import (
    decoder_parameters,
    encoder_parameters,
    gradient_moments,
    signal_to_noise,
)
from kexue_cli.tasks.vae.studies import common

if TYPE_CHECKING:
    from kexue_cli.run.context import Context
    from kexue_cli.tasks.vae.task import VaeTask

DEFAULT_K = (1, 5, 50, 500)
IMAGES, REPEATS = 10, 400


def groups(task: VaeTask) -> list[Group]:
    """One trained model; the gradients of all k are taken at its weights."""
    return [common.single(task, {"model": task.cfg.model.name}, task.recipe())]


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Signal-to-noise ratio of encoder and decoder gradients, IWAE and DReG, for each k."""
    group = task.bench.groups[0]
    x, _ = task.evaluated(group, split, IMAGES)
    found = []
    for k in (int(value) for value in task.cfg.task.study_values or DEFAULT_K):
        row: dict[str, Any] = {"k": k}
        for objective in ("iwae", "dreg"):
            probe = Group(group.model, task.recipe(objective=objective, samples=k), group.protocol)

            def loss(probe: Group = probe) -> torch.Tensor:
                return -probe.bound(x.unsqueeze(0), None, 0)[0].mean()

            for part, parameters in (
                ("encoder", encoder_parameters(group.model)),
                ("decoder", decoder_parameters(group.model)),
            ):
                if part == "encoder" or objective == "iwae":
                    moments = gradient_moments(loss, parameters, REPEATS)
                    row[f"{objective}_{part}_snr"] = signal_to_noise(*moments)
        found.append(row)
    return found


def plots(task: VaeTask, ctx: Context) -> None:
    """The three ratios over k."""
    from kexue_cli.tasks.vae.pictures import save_lines

    names = [name for name in task.table[0] if name != "k"]
    lines = {name: [row[name] for row in task.table] for name in names}
    path = ctx.directory.plots / "signal_to_noise.png"
    save_lines(path, [row["k"] for row in task.table], lines, "k", "signal-to-noise ratio")
