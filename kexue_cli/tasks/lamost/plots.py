"""Pictures of a run: learning curves, confusion matrices, the most confident mistakes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require
from kexue_cli.tasks.lamost.lines import BALMER, CALCIUM_HK, CALCIUM_TRIPLET, MAGNESIUM_B, SODIUM_D
from kexue_cli.tasks.lamost.spectra import LamostData, Split

MARKED = {
    **{name: BALMER[name] for name in ("Hα", "Hβ", "Hγ", "Hδ")},
    "": CALCIUM_HK["Ca II K"],
    "Ca II K, H": CALCIUM_HK["Ca II H"],  # too close together for two labels
    "Mg b": MAGNESIUM_B["Mg b2"],
    "Na D": SODIUM_D["Na D1"],
    "Ca II": CALCIUM_TRIPLET["Ca II 8542"],
}
N_MISTAKES = 6
OWN_FONT = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort High-Efficiency"  # comes with it too; has a box for every letter
DPI = 110


def learning_curves(log: Path, folder: Path) -> None:
    """Training loss and validation scores over the steps, from metrics.jsonl."""
    if not log.is_file():
        return
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    train = [row for row in rows if row.get("split") == "train" and "loss" in row]
    valid = [row for row in rows if row.get("split") == "valid" and "macro_f1" in row]
    if not train or not valid:
        return
    figure, (left, right) = _figure(ncols=2, figsize=(11, 4))
    for stage in dict.fromkeys(row["stage"] for row in train):
        part = [row for row in train if row["stage"] == stage]
        steps = [row["step"] for row in part]
        losses = [row["loss"] for row in part]
        left.plot(steps, losses, lw=1, label=stage, marker=_marker(part))
        for axes in (left, right):
            axes.axvline(steps[0], color="0.85", lw=1, zorder=0)
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    for name in ("macro_f1", "official_f1", "accuracy"):
        if name in valid[0]:
            label, marker = name.replace("_", " "), _marker(valid)
            values = [row[name] for row in valid]
            right.plot([row["step"] for row in valid], values, label=label, marker=marker)
    right.set(xlabel="step", ylabel="validation score")
    left.legend(frameon=False)
    right.legend(frameon=False)
    _save(figure, folder / "learning_curves.png")


def _marker(points: Sequence[Any]) -> str:
    """A line through one point is none: few points are marked."""
    return "." if len(points) < 50 else ""


def confusion(
    counts: NDArray[np.int64], class_names: Sequence[str], split: str, folder: Path
) -> None:
    """Counts, coloured by the share of each true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.9 * len(class_names)
    figure, axes = _figure(figsize=(size, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if shares[i, j] > 0.5 else "black"
        text = f"{counts[i, j]:,}\n{100 * shares[i, j]:.1f} %"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
    ticks, fonts = range(len(class_names)), fonts_for("".join(class_names))
    names = [drawable(name, fonts, f"class {number}") for number, name in enumerate(class_names)]
    axes.set_xticks(ticks, names, rotation=45, ha="right", family=fonts)
    axes.set_yticks(ticks, names, family=fonts)
    axes.set(xlabel="predicted", ylabel="true", title=split.replace("_", " "))
    _save(figure, folder / f"confusion_{split}.png")


def worst_mistakes(
    split: Split, probabilities: NDArray[np.float32], data: LamostData, folder: Path
) -> None:
    """The wrong answers given with most confidence, as spectra with the usual lines at rest."""
    assert split.labels is not None
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != split.labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:N_MISTAKES]
    if not len(worst):
        return
    figure, axes = _figure(nrows=len(worst), figsize=(10, 1.9 * len(worst) + 0.6), sharex=True)
    x = data.wavelength_angstrom
    points = np.arange(data.length) if x is None else x
    for row, panel in zip(worst, np.atleast_1d(axes), strict=True):
        panel.plot(points, split.raw_flux([row])[0], lw=0.6, color="0.15")
        fonts = fonts_for(f"{split.ids[row]}{''.join(data.class_names)}")
        true, said = (
            drawable(data.class_names[k], fonts, f"class {k}")
            for k in (split.labels[row], predicted[row])
        )
        name = drawable(str(split.ids[row]), fonts, f"row {row}")
        title = f"{name}: {true}, taken for {said} ({probabilities[row].max():.2f})"
        panel.set_title(title, fontsize=9, loc="left", family=fonts)
        panel.margins(x=0)
        if x is not None:
            _mark_lines(panel, float(points[0]), float(points[-1]))
    last = np.atleast_1d(axes)[-1]
    last.set_xlabel("point" if x is None else "wavelength (Å)")
    name = "test" if split is data.test else "valid"
    _save(figure, folder / f"worst_mistakes_{name}.png")


def _mark_lines(panel: Any, first: float, last: float) -> None:
    for name, wavelength in MARKED.items():
        if first < wavelength < last:
            panel.axvline(wavelength, color="tab:red", lw=0.6, alpha=0.5, zorder=0)
            panel.annotate(
                name,
                (wavelength, 1),
                xycoords=("data", "axes fraction"),
                xytext=(1, -2),
                textcoords="offset points",
                fontsize=6,
                rotation=90,
                va="top",
                color="tab:red",
            )


def fonts_for(text: str) -> list[str]:
    """Matplotlib's own font and, where it lacks a letter of `text`, an installed one that has it.

    It takes each letter from the first of them that has it.
    """
    missing = set(map(ord, text)) - _letters(OWN_FONT)
    if not missing:
        return [OWN_FONT]
    manager = require("matplotlib.font_manager", extra="plots")
    installed = {font.name for font in manager.fontManager.ttflist} - {BOXES}
    return [OWN_FONT, *[font for font in sorted(installed) if missing <= _letters(font)][:1]]


def drawable(text: str, fonts: Sequence[str], instead: str) -> str:
    """`text` with nothing in it that looks like a formula, or `instead` where a letter lacks."""
    if set(map(ord, text)) <= set().union(*map(_letters, fonts)):
        return text.replace("$", r"\$")
    return instead


@functools.cache
def _letters(font: str) -> frozenset[int]:
    manager = require("matplotlib.font_manager", extra="plots")
    freetype = require("matplotlib.ft2font", extra="plots")
    return frozenset(freetype.FT2Font(manager.findfont(font)).get_charmap())


def _figure(**arguments: Any) -> Any:
    matplotlib = require("matplotlib", extra="plots")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", extra="plots")
    return pyplot.subplots(layout="constrained", **arguments)


def _save(figure: Any, path: Path) -> None:
    pyplot = require("matplotlib.pyplot", extra="plots")
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
