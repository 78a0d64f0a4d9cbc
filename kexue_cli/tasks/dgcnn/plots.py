"""Pictures of a run: learning curves."""

from __future__ import annotations

import json
from pathlib import Path

from kexue_cli.extras import require

DPI = 110
LOG_FROM = 4  # largest loss to smallest
SCORES = ("accuracy", "em", "f1", "mean")


def learning_curves(log: Path, folder: Path) -> None:
    """Training loss and validation scores over the steps, from metrics.jsonl."""
    if not log.is_file():
        return
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    train = [row for row in rows if row.get("split") == "train" and "loss" in row]
    valid = [row for row in rows if row.get("split") == "valid" and "stage" in row]
    if not train or not valid:
        return
    plt = require("matplotlib.pyplot", extra="plots")
    ticker = require("matplotlib.ticker", extra="plots")
    figure, (left, right) = plt.subplots(ncols=2, figsize=(11, 4))
    for stage in dict.fromkeys(row["stage"] for row in train):
        part = [row for row in train if row["stage"] == stage]
        left.plot([row["step"] for row in part], [row["loss"] for row in part], lw=1, label=stage)
    left.set(xlabel="step", ylabel="training loss")
    losses = [row["loss"] for row in train]
    if 0 < LOG_FROM * min(losses) <= max(losses):
        left.set(yscale="log")
        left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(ticker.NullFormatter())
    for name in SCORES:
        if name in valid[0]:
            steps = [row["step"] for row in valid]
            right.plot(steps, [row[name] for row in valid], marker=".", label=name)
    right.set(xlabel="step", ylabel="validation score")
    for axes in (left, right):
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(folder / "learning_curves.png", dpi=DPI)
    plt.close(figure)
