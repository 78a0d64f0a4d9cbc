"""Pictures of a run: the curve, the words' lengths and frequencies, the best words by length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kexue_cli.extras import require
from kexue_cli.run.metrics_log import read_metrics
from kexue_cli.tasks.minent.description_length import NATS_PER_BIT
from kexue_cli.tasks.minent.segmentation import Tally

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

CJK_FONTS = (
    "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "SimHei", "Microsoft YaHei", "PingFang SC", "Heiti SC", "Arial Unicode MS",
)  # fmt: skip
BEST_LENGTHS, BEST_WORDS = 8, 12
LONGEST_BAR, LONGEST_SHOWN = 256, 40  # characters of a word
CURVES = ("entropy_per_character_nats", "two_part_nats_per_character")


def draw(ctx: Context, tally: Tally) -> None:
    """Write curve.png, words.png and best_words.png into the run's plots."""
    pyplot = _pyplot()
    _draw_curve(ctx, pyplot, tally)
    if tally.words:
        _draw_words(ctx, pyplot, tally)
        _draw_best(ctx, pyplot, tally)


def _pyplot() -> Any:
    matplotlib = require("matplotlib", extra="plots")
    matplotlib.use("Agg")
    return require("matplotlib.pyplot", extra="plots")


def _save(ctx: Context, pyplot: Any, figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(ctx.directory.plots / name, dpi=120)
    pyplot.close(figure)


def _draw_curve(ctx: Context, pyplot: Any, tally: Tally) -> None:
    """Bits per character against the exponents tried, or against steps where there is none.

    Of a method that tries nothing: of the letters, and of the words it found.
    """
    ctx.log.flush()
    path = ctx.directory.path / "metrics.jsonl"
    rows = [r for r in read_metrics(path) if CURVES[0] in r] if path.exists() else []
    if not rows:
        found = tally.metrics()
        letters = found["entropy_per_character_before_nats"]
        rows = [{"units": "letters", CURVES[0]: letters}, {"units": "words", **found}]
    axis = next(name for name in ("exponent", "step", "units") if name in rows[0])
    rows.sort(key=lambda row: row[axis])  # letters before words, too
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, label in zip(CURVES, ("L = H / l", "with the lexicon"), strict=True):
        points = [(r[axis], r[name] / NATS_PER_BIT) for r in rows if name in r]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker="." if len(points) < 50 else "", label=label
            )
    axes.set(xlabel=axis, ylabel="bits per character", title="Entropy and description length")
    axes.legend()
    _save(ctx, pyplot, figure, "curve.png")


def _draw_words(ctx: Context, pyplot: Any, tally: Tally) -> None:
    counts = np.fromiter(tally.words.values(), np.int64, len(tally.words))
    lengths = np.fromiter(map(len, tally.words), np.int64, len(tally.words))
    lengths = np.minimum(lengths, LONGEST_BAR)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    sizes = np.arange(1, lengths.max() + 1)
    left.bar(sizes - 0.2, np.bincount(lengths)[1:] / len(lengths), 0.4, label="lexicon")
    left.bar(sizes + 0.2, np.bincount(lengths, counts)[1:] / counts.sum(), 0.4, label="text")
    more = f" ({LONGEST_BAR}: or more)" if lengths.max() == LONGEST_BAR else ""
    left.set(xlabel=f"word length in characters{more}", ylabel="share")
    left.legend()
    right.loglog(np.arange(1, len(counts) + 1), np.sort(counts)[::-1])
    right.set(xlabel="rank", ylabel="count", title="Word frequencies")
    _save(ctx, pyplot, figure, "words.png")


def _draw_best(ctx: Context, pyplot: Any, tally: Tally) -> None:
    """The most frequent words of each length, if there is a font for them."""
    font = _font_for(tally)
    if font is None:
        ctx.console.say("no font with Han characters: plots/best_words.png is left out")
        return
    by_length: dict[int, list[str]] = {}
    for word in tally.words:
        length = len(word)
        row = by_length.setdefault(length, [])
        if len(row) < BEST_WORDS:
            row.append(word if length <= LONGEST_SHOWN else word[:LONGEST_SHOWN] + "…")
    lengths = sorted(by_length)[:BEST_LENGTHS]
    figure, axes = pyplot.subplots(figsize=(10, 0.4 * len(lengths) + 0.6))
    axes.set_axis_off()
    for line, size in enumerate(lengths):
        text = f"{size}:  " + "   ".join(by_length[size])
        axes.text(0, 1 - line / len(lengths), text, family=font, va="top", parse_math=False)
    _save(ctx, pyplot, figure, "best_words.png")


def _font_for(tally: Tally) -> str | None:
    han = tally.characters[0x2E80:0x40000].sum() > 0
    if not han:
        return "DejaVu Sans"
    manager = require("matplotlib.font_manager", extra="plots")
    installed = {font.name for font in manager.fontManager.ttflist}
    return next((font for font in CJK_FONTS if font in installed), None)
