"""The page of a sweep: what was varied and what came out."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from kexue_cli.manage import tables
from kexue_cli.manage.grouping import REPETITION_KEYS
from kexue_cli.report import charts, html
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep.job import read_report
from kexue_cli.sweep.results import job_rows, primary_column, summary_rows

MOST_PAIRS = 6


def sweep_page(directory: Path) -> str:
    """The whole page as HTML."""
    plan = plans.load(directory)
    rows = job_rows(plan)
    primary = primary_column(plan)
    keys = plans.swept_keys(plan)
    varied = [key for key in keys if key not in REPETITION_KEYS]
    scored = scored_rows(rows, keys, primary)
    sections = [_head(plan, rows)]
    if scored and primary:
        sections += [
            html.section("Mean ± sd over seeds and folds", _summary(plan, primary)),
            html.section("Parallel coordinates", _coordinates(scored, varied, primary)),
            html.section("Interaction of two parameters", interactions(scored, varied, primary)),
        ]
    shown = [key for key in rows[0] if key not in ("directory", "error")]
    sections.append(html.section("All jobs", html.table(rows, shown, sortable=True)))
    sections.append(html.section("Failures", _failures(plan, rows)))
    return html.page(f"sweep {directory.name}", sections)


def scored_rows(
    rows: Sequence[tables.Row], keys: Sequence[str], primary: str | None
) -> list[tables.Row]:
    """The finished jobs: settings as numbers where they are numbers, and the primary metric."""
    kept = []
    for row in rows:
        if primary is None or not isinstance(row.get(primary), (int, float)):
            continue
        kept.append({key: _number_or_word(row.get(key)) for key in keys} | {primary: row[primary]})
    return kept


def _number_or_word(value: object) -> float | str:
    try:
        return float(str(value))
    except ValueError:
        return "default" if value is None else str(value)


def _head(plan: plans.Plan, rows: Sequence[tables.Row]) -> str:
    done = sum(row["status"] == "done" for row in rows)
    title = f"<h1>Sweep {escape(plan.directory.name)}</h1>"
    failed = sum(row["status"] == "failed" for row in rows)
    items = [("jobs done", f"{done} of {len(rows)}"), ("failed", str(failed) if failed else "")]
    seconds = [row["wall_seconds"] for row in rows if row["wall_seconds"]]
    items.append(("time of all jobs", tables.duration(sum(seconds)) if seconds else ""))
    common = [word for word in plan.jobs[0] if word.partition("=")[0] not in plans.swept_keys(plan)]
    return title + html.headline(items) + html.pre(" ".join(common))


def _summary(plan: plans.Plan, primary: str) -> str:
    rows = summary_rows(plan)
    settings = [key for key in rows[0] if "/" not in key]
    return html.table(rows, [*settings, primary], sortable=True)


def _coordinates(rows: Sequence[tables.Row], varied: Sequence[str], primary: str) -> str:
    """One line per setting, its score the mean over seeds and folds."""
    scores: dict[tuple[float | str, ...], list[float]] = {}
    for row in rows:
        scores.setdefault(tuple(row[key] for key in varied), []).append(float(row[primary]))
    if not varied or len(scores) < 2:
        return ""
    lines = [
        dict(zip(varied, setting, strict=True)) | {primary: statistics.fmean(values)}
        for setting, values in scores.items()
    ]
    chart = charts.parallel_coordinates(lines, [*varied, primary])
    return html.figure("the stronger a line, the higher its score", chart, wide=True)


def interactions(rows: Sequence[tables.Row], varied: Sequence[str], primary: str) -> str:
    """A grid of mean scores for every pair of varied parameters; nothing with fewer than two."""
    figures = []
    for first, second in list(itertools.combinations(varied, 2))[:MOST_PAIRS]:
        values: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            pair = (tables.shown(row[first]), tables.shown(row[second]))
            values.setdefault(pair, []).append(float(row[primary]))
        means = {pair: statistics.fmean(scores) for pair, scores in values.items()}
        grid = charts.interaction(means, first, second)
        figures.append(html.figure(f"mean {escape(primary)}", grid))
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def _failures(plan: plans.Plan, rows: Sequence[tables.Row]) -> str:
    parts = []
    for row in rows:
        if row["status"] == "failed":
            error = str(read_report(plan, row["job"]).get("error") or "no message")
            parts.append(html.details(f"job {row['job']}: {row['error'] or ''}", html.pre(error)))
    return "".join(parts)
