"""Pictures of a fit: the climb, data with ellipses, model choice, images of means, topic words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kexue_cli.extras import require
from kexue_cli.tasks.em.data import Table
from kexue_cli.tasks.em.session import Session

POINTS = 5000  # drawn at most
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
MARKS = "os^DvPX*"


def draw(model: Any, table: Table, session: Session, folder: Path) -> None:
    """Every picture that this model and table allow, as PNG files in `folder`."""
    matplotlib = require("matplotlib", extra="plots")
    matplotlib.use("Agg")
    if session.history:
        _climb(session, getattr(model, "chosen_path", None), folder)
    if getattr(model, "comparison", None) and len(model.comparison) > 1:
        _choice(model.comparison, folder)
    if getattr(model, "path", None) is not None:
        _annealing(model.path, folder)
    if hasattr(model, "topic_rows"):
        _topics(model, folder)
    elif table.shape is not None:
        _images(model, table, folder)
    elif isinstance(table.values, np.ndarray):
        _data(model, table, session, folder)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _climb(session: Session, path: tuple[int, int] | None, folder: Path) -> None:
    """The post's two terms of the chosen restart, and the gap between them on a log scale."""
    history = [row for row in session.history if (row.get("fit"), row.get("restart")) == path]
    if not history:
        return _one_curve(session, folder)
    steps = np.array([row["step"] for row in history])
    figure, axes = _figure(7, 5.5, 2)
    top, bottom = axes[:, 0]
    marginal = np.array([row["marginal_nll"] for row in history])
    joint = np.array([row["joint_kl_after_m"] for row in history])
    joint[-1] = np.nan  # of an M-step that was not taken: the fit had ended
    floor = marginal.min()
    above = np.sort(marginal - floor)
    smallest = float(above[above > 0][0]) if (above > 0).any() else 0.0
    top.plot(
        steps, marginal - floor, marker="o", ms=3, color=COLOURS[0], label="marginal NLL (after E)"
    )
    top.plot(
        steps + 0.5, joint - floor, marker="s", ms=3, color=COLOURS[1], label="joint KL after M"
    )
    top.set_yscale("symlog", linthresh=max(smallest, 1e-6))
    top.set_ylabel(f"nats above {floor:.4f}")
    top.legend(frameon=False)
    gaps = [(row["step"], row.get("posterior_gap_after_m")) for row in history]
    known = np.array([(step, gap) for step, gap in gaps if gap is not None and gap > 0])
    if len(known):
        bottom.plot(known[:, 0], known[:, 1], marker="^", ms=3, color=COLOURS[2])
        bottom.set_yscale("log")
    bottom.set_ylabel("posterior gap after M (nats)")
    bottom.set_xlabel("iteration")
    figure.suptitle("joint KL = marginal NLL + posterior gap; the E-step makes the gap zero")
    figure.savefig(folder / "climb.png", dpi=120)
    return None


def _one_curve(session: Session, folder: Path) -> None:
    name = next((n for n in ("inertia", "marginal_nll") if n in session.history[0]), None)
    if name is None:
        return
    figure, axes = _figure(7, 4)
    values = np.array([row.get(name, np.nan) for row in session.history])
    axes[0, 0].plot(values, marker="o", ms=3, color=COLOURS[0])
    axes[0, 0].set_xlabel("iteration (all restarts, one after the other)")
    axes[0, 0].set_ylabel(name.replace("_", " "))
    figure.savefig(folder / "climb.png", dpi=120)


def _choice(comparison: list[dict[str, Any]], folder: Path) -> None:
    """Criteria over the number of components, a curve per covariance model."""
    figure, axes = _figure(11, 4.5, 1, 2)
    for axis, criterion in zip(axes[0], ("bic", "icl"), strict=True):
        names = list(dict.fromkeys(row["covariance"] for row in comparison))
        for number, name in enumerate(names):
            rows = [r for r in comparison if r["covariance"] == name]
            sound = [r for r in rows if not r["collapsed_components"]]
            axis.plot(
                [r["n_components"] for r in sound],
                [r[criterion] for r in sound],
                marker=MARKS[number % len(MARKS)],
                color=COLOURS[number % len(COLOURS)],
                ls="-" if number < len(COLOURS) else "--",
                ms=4,
                lw=1,
                label=name or "mixture",
            )
        axis.set_xlabel("components")
        axis.set_ylabel(f"{criterion.upper()} (lower is better)")
        values = [row[criterion] for row in comparison if not row["collapsed_components"]]
        if values:  # the worst third would squeeze the rest into a line
            low, high = min(values), float(np.quantile(values, 0.67))
            axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 1].legend(frameon=False, fontsize=7, ncols=2)
    figure.savefig(folder / "model_choice.png", dpi=120)


def _annealing(path: Any, folder: Path) -> None:
    """K-Means as the limit of a mixture: entropy and inertia while the variance goes to 0."""
    variance = np.array(path.variance[:-1])
    figure, axes = _figure(7, 5, 2)
    axes[0, 0].plot(variance, path.entropy_per_row[:-1], color=COLOURS[0], marker="o", ms=3)
    axes[0, 0].set_ylabel("entropy per row (nats)")
    axes[1, 0].plot(variance, path.inertia[:-1], color=COLOURS[1], marker="o", ms=3)
    axes[1, 0].axhline(path.inertia[-1], color="black", lw=0.8, ls="--", label="K-Means limit")
    axes[1, 0].set_ylabel("inertia of hard assignment")
    axes[1, 0].set_xlabel("common variance (falls to the right)")
    axes[1, 0].legend(frameon=False)
    for axis in axes[:, 0]:
        axis.set_xscale("log")
        axis.invert_xaxis()
    figure.savefig(folder / "annealing.png", dpi=120)


def _topics(model: Any, folder: Path) -> None:
    """The likeliest words of each topic as bars."""
    rows = model.topic_rows()[:12]
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = _figure(3 * columns, 2.4 * lines, lines, columns)
    for axis, row in zip(axes.flat, rows, strict=False):
        top = np.argsort(-model.words[row["topic"]])[:8][::-1]
        axis.barh([model.vocabulary[word] for word in top], model.words[row["topic"]][top])
        axis.set_title(f"topic {row['topic']}, {row['share']:.0%}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.locator_params(axis="x", nbins=3)  # more numbers of four digits run into each other
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    figure.savefig(folder / "topics.png", dpi=120)


def _images(model: Any, table: Table, folder: Path) -> None:
    """Component means as images, heaviest first."""
    means = model.means()
    chosen = getattr(model, "chosen", None)
    weights = np.ones(len(means)) if chosen is None else chosen.parameters["weights"][0]
    order = np.argsort(-weights, kind="stable")[:100]
    columns = min(10, len(order))
    lines = -(-len(order) // columns)
    figure, axes = _figure(columns, lines * 1.15, lines, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, k in zip(axes.flat, order, strict=False):
        axis.imshow(means[k].reshape(table.shape), cmap="gray_r")
        if chosen is not None:
            axis.set_title(f"{weights[k]:.1%}", fontsize=7, pad=1)
    figure.savefig(folder / "means.png", dpi=120)


def _data(model: Any, table: Table, session: Session, folder: Path) -> None:
    """Rows by cluster on two axes (principal ones of more), ellipses at some iterations."""
    keep = np.linspace(0, len(table) - 1, min(POINTS, len(table))).round().astype(np.int64)
    rows = np.asarray(table.values[keep], dtype=np.float64)
    keep, rows = keep[~np.isnan(rows).any(axis=1)], rows[~np.isnan(rows).any(axis=1)]
    if len(rows) < 2:
        return None
    shown = Table(table.name, rows, table.columns, table.ids[keep])
    clusters = model.responsibilities(shown).argmax(axis=1)
    if rows.shape[1] == 1:
        return _histogram(model, rows[:, 0], table, folder)
    rows, columns = _comparable(model, rows, table.columns)
    centre, plane, names = _plane(rows, columns)
    path = session.snapshots.get(getattr(model, "chosen_path", (0, 0)), [])
    snapshots = [s for s in path if "covariances" in s[1]]
    stages = _stages(snapshots)
    panels = max(1, len(stages) + ("covariances" in _parameters(model)))
    figure, axes = _figure(4 * panels, 4, 1, panels)
    drawn: list[tuple[str, Any]] = [(f"iteration {number}", p) for number, p in stages]
    drawn.append(("end", _parameters(model)))
    for axis, (title, parameters) in zip(axes[0], drawn[-panels:], strict=True):
        _scatter(axis, (rows - centre) @ plane, clusters)
        for k in range(len(model.means())):
            if "covariances" in parameters:
                _ellipse(axis, parameters, k, model.shift - centre, plane)
        if "covariances" not in parameters:
            points = (model.means() - centre) @ plane
            axis.plot(points[:, 0], points[:, 1], "k+", ms=12, mew=2)
        axis.set_title(title)
        axis.set_xlabel(names[0])
    axes[0, 0].set_ylabel(names[1])
    figure.savefig(folder / "clusters.png", dpi=120)
    return None


def _comparable(model: Any, rows: np.ndarray, columns: list[str]) -> tuple[np.ndarray, list[str]]:
    """Rows in the units of the model's means: of counts, their shares of the row's total."""
    if not getattr(model, "means_are_shares", False):
        return rows, columns
    shares = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-300)
    return shares, [f"share of {name}" for name in columns]


def _parameters(model: Any) -> dict[str, np.ndarray]:
    chosen = getattr(model, "chosen", None)
    return {} if chosen is None else chosen.parameters


def _stages(snapshots: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """At most three snapshots: the start, an early one, a later one."""
    if len(snapshots) <= 3:
        return snapshots[:-1]
    return [snapshots[0], snapshots[len(snapshots) // 3], snapshots[2 * len(snapshots) // 3]]


def _plane(rows: np.ndarray, columns: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Origin, (d, 2) axes of the picture and their names."""
    if rows.shape[1] == 2:
        return np.zeros(2), np.eye(2), columns
    centre = rows.mean(axis=0)
    axes = np.linalg.svd(rows - centre, full_matrices=False)[2][:2]
    return centre, axes.T, ["first principal axis", "second principal axis"]


def _scatter(axis: Any, points: np.ndarray, clusters: np.ndarray) -> None:
    for k in range(int(clusters.max()) + 1):
        chosen = points[clusters == k]
        colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
        axis.plot(chosen[:, 0], chosen[:, 1], mark, ms=3, color=colour, alpha=0.6, mew=0)


def _ellipse(
    axis: Any, parameters: dict[str, np.ndarray], k: int, shift: np.ndarray, plane: np.ndarray
) -> None:
    """The curve of two standard deviations of a component's shadow on the plane."""
    covariance = parameters["covariances"][0, k]
    covariance = np.diag(covariance) if covariance.ndim == 1 else covariance
    centre = (parameters["means"][0, k] + shift) @ plane
    eigenvalues, axes = np.linalg.eigh(plane.T @ covariance @ plane)
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curve = centre + 2 * (circle * np.sqrt(np.maximum(eigenvalues, 0))) @ axes.T
    axis.plot(curve[:, 0], curve[:, 1], color=COLOURS[k % len(COLOURS)], lw=1.5)
    axis.plot(*centre, "k+", ms=8)


def _histogram(model: Any, values: np.ndarray, table: Table, folder: Path) -> None:
    """One column: a histogram under the mixture's density."""
    figure, axes = _figure(7, 4)
    axis = axes[0, 0]
    axis.hist(values, bins="auto", density=True, color="#cccccc")
    parameters = _parameters(model)
    if "covariances" in parameters:
        beyond = 0.05 * (values.max() - values.min())
        grid = np.linspace(values.min() - beyond, values.max() + beyond, 800)
        deviations = np.sqrt(parameters["covariances"][0].reshape(-1))
        total = np.zeros_like(grid)
        for k, (mean, deviation) in enumerate(zip(model.means()[:, 0], deviations, strict=True)):
            weight = parameters["weights"][0, k]
            z = (grid - mean) / deviation
            density = weight * np.exp(-0.5 * z**2) / (deviation * np.sqrt(2 * np.pi))
            axis.plot(grid, density, color=COLOURS[k % len(COLOURS)], lw=1)
            total += density
        axis.plot(grid, total, "k:", lw=1.5)  # dotted: components that do not overlap lie under it
    axis.set_xlabel(table.columns[0])
    axis.set_ylabel("density")
    figure.savefig(folder / "clusters.png", dpi=120)
