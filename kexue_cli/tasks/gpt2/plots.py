"""Pictures of a run: losses beside what counting achieves, and attention to one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.extras import require
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.files import replacing
from kexue_cli.run.metrics_log import read_metrics
from kexue_cli.tasks.gpt2.model import Gpt

SHOWN_LAYERS = 6


def loss_curves(directory: RunDirectory, baselines: Sequence[float]) -> None:
    """loss.png: training and validation loss over steps; one line per n-gram order."""
    figure, axes = _figure(7, 4.5)
    rows = list(read_metrics(directory.path / "metrics.jsonl"))
    for split, style in (("train", {"alpha": 0.5}), ("valid", {"marker": "o"})):
        points = [(r["step"], r["loss"]) for r in rows if r["split"] == split and "loss" in r]
        if points:
            axes.plot(*zip(*points, strict=True), label=split, **style)
    for order, loss in enumerate(baselines, start=1):
        axes.axhline(loss, color="0.6", linewidth=0.8)
        place = 0.995 if order % 2 else 0.92  # long n-grams come close to each other
        axes.annotate(f"{order}-gram", (place, loss), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=7, color="0.4")  # fmt: skip
    axes.set(xlabel="step", ylabel="nats per token")
    axes.legend()
    _save(directory, figure, "loss.png")


@torch.inference_mode()
def attention(
    directory: RunDirectory, model: Gpt, ids: NDArray[np.int64], labels: Sequence[str]
) -> None:
    """attention.png: what each token looks at, the mean over heads, in some layers."""
    device = next(model.parameters()).device
    tokens = torch.from_numpy(np.asarray(ids, np.int64))[None].to(device)
    maps = model.attention_maps(tokens)[:, 0].float().mean(1).cpu().numpy()  # (layer, query, key)
    shown = np.unique(np.linspace(0, len(maps) - 1, SHOWN_LAYERS).round().astype(int))
    figure, all_axes = _figure(3.2 * len(shown), 3.6, len(shown))
    ticks = [_tick(label) for label in labels]
    for axes, layer in zip(np.atleast_1d(all_axes), shown, strict=True):
        axes.imshow(maps[layer], cmap="Blues", vmin=0)
        axes.set_title(f"layer {layer + 1}", fontsize=9)
        axes.set_xticks(range(len(ticks)), ticks, fontsize=6)
        axes.set_yticks(range(len(ticks)), ticks, fontsize=6)
    _save(directory, figure, "attention.png")


def _tick(label: str) -> str:
    """A readable, drawable tick: matplotlib's own font has no Chinese characters."""
    shown = label.replace("\n", "\\n").replace(" ", "␣")
    return shown if shown.isascii() else "·"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    figures = require("matplotlib.figure", extra="plots")
    figure = figures.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _save(directory: RunDirectory, figure: Any, name: str) -> None:
    with replacing(directory.plots / name) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
