"""The numbers a run reports, under names that tell how they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from kexue_cli.tasks.vae import evaluation
from kexue_cli.tasks.vae.latents import GaussianLatent
from kexue_cli.tasks.vae.pixels import evenly

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.cells import Group
    from kexue_cli.tasks.vae.task import VaeTask

AGGREGATE_IMAGES = 2000
MOST_LATENTS = 100  # whose KL is reported one by one
WIDEST = 7  # columns of a printed table
PLAIN = ("kl", "kl_mean", "kl_variance", "active_units", "mean_sigma")


def bound_numbers(task: VaeTask, group: Group, split: str) -> list[dict[str, float]]:
    """One dict per cell: bound, reconstruction, KL and its parts, active units, aggregate KL."""
    x, labels = task.evaluated(group, split)
    with task.ctx.device.autocast():
        found = evaluation.elbo_numbers(group.model, x, labels, task.rows_in_flight)
    named = {name: found[name] for name in PLAIN if name in found}
    for name in ("neg_elbo", "reconstruction"):
        named[group.protocol.name(name)] = found[name] + group.protocol.offset
    if isinstance(group.model.latent, GaussianLatent) and not group.model.needs_labels:
        few = x if len(x) <= AGGREGATE_IMAGES else x[evenly(len(x), AGGREGATE_IMAGES)]
        named[f"aggregate_kl_n{len(few)}"] = evaluation.aggregate_kl(group.model, few, None)
    if "kl_per_latent" in found:
        for latent, value in enumerate(found["kl_per_latent"].T[:MOST_LATENTS]):
            named[f"kl_latent/{latent}"] = value
    return per_cell(named, len(group.cells))


def sampled_numbers(task: VaeTask, group: Group, split: str) -> list[dict[str, float]]:
    """One dict per cell: NLL and bounds L_k by importance sampling.

    k and pixel protocol are in their names.
    """
    found = per_image_likelihood(task, group, split)
    means = {name: value.double().mean(1) for name, value in found.items()}
    return per_cell(means, len(group.cells))


def per_cell(values: dict[str, Tensor], cells: int) -> list[dict[str, float]]:
    """Tensors (cells,) as one dict of numbers per cell."""
    return [{name: float(value[cell]) for name, value in values.items()} for cell in range(cells)]


def per_image_likelihood(task: VaeTask, group: Group, split: str) -> dict[str, Tensor]:
    """(cells, n) tensors; empty for gray cross-entropy, which is no likelihood."""
    settings = task.cfg.task
    if not group.protocol.is_likelihood or settings.nll_samples == 0:
        return {}
    x, labels = task.evaluated(group, split, settings.nll_images)
    title = f"NLL, {settings.nll_samples} samples"
    with task.ctx.console.progress(len(x), title, "images") as meter, task.ctx.device.autocast():
        found = evaluation.likelihood_numbers(
            group.model,
            x,
            labels,
            settings.nll_samples,
            list(settings.bounds),
            task.rows_in_flight,
            meter.advance,
        )
    effective = found.pop("ess")
    suffix, offset = group.protocol.suffix, group.protocol.offset
    part = "" if len(x) == len(task.images.split(split)) else f"_n{len(x)}"
    named = {f"{name}_{suffix}{part}": value + offset for name, value in found.items()}
    return {**named, f"effective_samples_of_{settings.nll_samples}": effective}


def row_names(rows: list[dict[str, Any]]) -> list[str]:
    """What tells a table's rows apart: the first column, or its number where that is not enough."""
    key = next(iter(rows[0]))
    names = [str(row[key]) if isinstance(row[key], str) else f"{key}={row[key]:g}" for row in rows]
    return names if len(set(names)) == len(rows) else [f"row {n}" for n in range(1, len(rows) + 1)]


def as_printed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table itself, or turned on its side where it is too wide for a terminal."""
    if len(rows[0]) <= WIDEST or len(rows) > WIDEST:
        return rows
    named = list(zip(row_names(rows), rows, strict=True))
    return [
        {"number": name, **{row_name: row[name] for row_name, row in named}} for name in rows[0]
    ]


def flattened(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of a table as one dict, `row/column`, for metrics.json."""
    return {
        f"{row_name}/{name}": float(value)
        for row_name, row in zip(row_names(rows), rows, strict=True)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
