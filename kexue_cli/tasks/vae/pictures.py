"""Pictures of a trained model: samples, reconstructions, latent plane, interpolations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kexue_cli.extras import require
from kexue_cli.run.files import replacing
from kexue_cli.tasks.vae.latents import GaussianLatent

if TYPE_CHECKING:
    from pathlib import Path

    from kexue_cli.run.context import Context
    from kexue_cli.tasks.vae.task import VaeTask

GRID_SIDE = 15
QUANTILES = (0.05, 0.95)  # of the normal prior, where the latent grid begins and ends (bojone/vae)


def training_pictures(task: VaeTask, ctx: Context) -> None:
    """Samples, reconstructions, and the plane and the scatter where there are two latents."""
    save_all(task, ctx, arrays(task, interpolations=False))


def generate(task: VaeTask, ctx: Context) -> None:
    """mode=generate: all pictures, and their arrays in generated.npz."""
    ctx.seeds.seed_global("generate")
    found = arrays(task, interpolations=True)
    with replacing(ctx.directory.path / "generated.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **found)  # type: ignore[arg-type]
    save_all(task, ctx, found)
    ctx.console.say(
        f"pictures in {ctx.directory.plots}, arrays in {ctx.directory.path / 'generated.npz'}"
    )


@torch.no_grad()
def arrays(task: VaeTask, interpolations: bool) -> dict[str, np.ndarray]:
    """Name -> pictures (n, height, width) in [0, 1]; latent means (n, latents) for the scatter."""
    model = task.bench.groups[0].model
    x, labels = task.evaluated(task.bench.groups[0], "test")
    few = slice(0, len(x), max(1, len(x) // 10))
    shown = x[few][:10]
    shown_labels = None if labels is None else labels[:, few][:, :10]
    classes = None if labels is None else torch.eye(labels.shape[-1], device=x.device).unsqueeze(0)
    found = {"samples": prior_samples(task, 100, classes)}
    terms = model(shown.unsqueeze(0), shown_labels)
    recovered = model.likelihood.mean(model.decode(terms.draw.z, shown_labels))[0, :, 0]
    found["reconstructions"] = pictures(task, torch.cat([shown, recovered]))
    means = model.latent.draw(model.features(x.unsqueeze(0), labels), labels, 1).mean
    if means is not None:
        found["latent_means"] = means[0].cpu().numpy()
    if interpolations:
        found["interpolations"] = interpolated(task, terms.draw.z[:, :, 0], shown_labels)
    if isinstance(model.latent, GaussianLatent) and model.latent.latents == 2:
        found["latent_grid"] = latent_grid(task, classes)
    return found


def prior_samples(task: VaeTask, n: int, classes: Tensor | None) -> np.ndarray:
    """Mean images of `n` draws from the prior.

    With classes (1, c, c) row i of the picture is class i, ten of each.
    """
    model = task.bench.groups[0].model
    labels = None if classes is None else classes.repeat_interleave(10, 1)
    n = n if labels is None else labels.shape[1]
    z = model.latent.prior_draw(1, n, labels)
    return pictures(task, model.likelihood.mean(model.decode(z.unsqueeze(2), labels))[0, :, 0])


def interpolated(task: VaeTask, z: Tensor, labels: Tensor | None, steps: int = 10) -> np.ndarray:
    """Rows of `steps` images on the way from image 2i to image 2i+1; z is (1, n, latents)."""
    model = task.bench.groups[0].model
    pairs = z.shape[1] // 2
    start, end = z[:, 0 : 2 * pairs : 2], z[:, 1 : 2 * pairs : 2]
    share = torch.linspace(0, 1, steps, device=z.device).view(1, 1, steps, 1)
    between = start.unsqueeze(2) * (1 - share) + end.unsqueeze(2) * share
    given = None if labels is None else labels[:, 0 : 2 * pairs : 2]
    return pictures(task, model.likelihood.mean(model.decode(between, given))[0].flatten(0, 1))


def latent_grid(task: VaeTask, classes: Tensor | None) -> np.ndarray:
    """15 x 15 decodes at normal quantiles 0.05 to 0.95: z1 rises to the right, z2 upwards.

    With class means it is the plane around the last class's mean (the post shows digit 9).
    """
    model = task.bench.groups[0].model
    assert isinstance(model.latent, GaussianLatent)
    normal = torch.distributions.Normal(0.0, 1.0)
    ticks = normal.icdf(torch.linspace(*QUANTILES, GRID_SIDE)).to(task.device)
    vertical, horizontal = torch.meshgrid(ticks.flip(0), ticks, indexing="ij")
    z = torch.stack([horizontal, vertical], -1).view(1, -1, 2)
    label = None if classes is None else classes[:, -1:].expand(-1, z.shape[1], -1)
    z = z + model.latent.prior_mean(label)
    return pictures(task, model.likelihood.mean(model.decode(z.unsqueeze(2), label))[0, :, 0])


def pictures(task: VaeTask, flat: Tensor) -> np.ndarray:
    """(n, pixels) -> (n, height, width) in [0, 1]."""
    array: np.ndarray = flat.float().clamp(0, 1).cpu().numpy().reshape(-1, *task.images.shape)
    return array


def save_all(task: VaeTask, ctx: Context, found: dict[str, np.ndarray]) -> None:
    """One PNG per array."""
    columns = {"samples": 10, "reconstructions": 10, "interpolations": 10, "latent_grid": GRID_SIDE}
    labelled = task.bench.groups[0].model.needs_labels
    rows = ", class by class in rows" if labelled else ""
    plane = f" of class {task.images.classes - 1}" if labelled else ""
    titles = {
        "samples": f"decoded draws from the prior{rows}",
        "reconstructions": "test images (first row) and their reconstructions",
        "interpolations": "between two test images",
        "latent_grid": f"the latent plane{plane} at normal quantiles 0.05 to 0.95",
    }
    for name, width in columns.items():
        if name in found:
            picture = tiled(found[name], width)
            save_picture(ctx.directory.plots / f"{name}.png", picture, titles[name])
    if "latent_means" in found:
        labels = task.images.test.labels
        save_scatter(ctx.directory.plots / "latent_scatter.png", found["latent_means"], labels)


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """(n, height, width) -> one picture with `columns` images per row and a pixel between them."""
    n, height, width = images.shape
    rows = math.ceil(n / columns)
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1), dtype=np.float32)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image
    return canvas


def new_figure(width: float, height: float) -> Any:
    """A figure that no window shows."""
    figure = require("matplotlib.figure", extra="plots").Figure(figsize=(width, height), dpi=120)
    return figure


def save_picture(path: Path, picture: np.ndarray, title: str) -> None:
    """A gray picture with a title."""
    height, width = picture.shape
    figure = new_figure(6, 6 * height / width + 0.4)
    axes = figure.subplots()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")
    save_figure(path, figure)


def save_scatter(path: Path, means: np.ndarray, labels: np.ndarray | None) -> None:
    """The first two latent means (of more, the two that vary most), coloured by class."""
    axes_of_most = np.sort(np.argsort(-means.var(0))[:2])
    if len(axes_of_most) < 2:
        return
    figure = new_figure(6, 5.5)
    axes = figure.subplots()
    first, second = means[:, axes_of_most[0]], means[:, axes_of_most[1]]
    area = min(20, max(4, 8000 / len(means)))  # of a point: few are large enough to tell colours
    colours = None if labels is None else "tab10" if labels.max() < 10 else "nipy_spectral"
    points = axes.scatter(first, second, c=labels, s=area, cmap=colours, linewidths=0)
    if labels is not None:
        handles, names = points.legend_elements(num=None)
        axes.legend(
            handles, names, title="class", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
        )
    axes.set_xlabel(f"mean of z{axes_of_most[0]}")
    axes.set_ylabel(f"mean of z{axes_of_most[1]}")
    axes.set_title("posterior means of the test images", fontsize=10)
    save_figure(path, figure)


def save_lines(
    path: Path, x: list[float], lines: dict[str, list[float]], x_name: str, y_name: str
) -> None:
    """Named lines over a common logarithmic axis."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, values in lines.items():
        axes.plot(x, values, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    save_figure(path, figure)


def save_figure(path: Path, figure: Any) -> None:
    """PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")
