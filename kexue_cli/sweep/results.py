"""sweep.csv and summary.csv: every job's outcome, and means over seeds and folds."""

from __future__ import annotations

import statistics
from typing import Any

from kexue_cli.manage import tables
from kexue_cli.manage.grouping import REPETITION_KEYS, metric_names
from kexue_cli.manage.store import Run, read_run
from kexue_cli.run.files import write_text
from kexue_cli.sweep import plan as plans
from kexue_cli.sweep.job import one_line, read_report, status_of


def write_results(plan: plans.Plan) -> None:
    """Write sweep.csv and summary.csv of whatever there is by now."""
    results = {"sweep.csv": job_rows(plan), "summary.csv": summary_rows(plan, numeric=True)}
    for name, rows in results.items():
        write_text(plan.directory / name, tables.render(rows, format="csv") + "\n")


def job_rows(plan: plans.Plan) -> list[tables.Row]:
    """One row per job: status, what was swept, all metrics, time, the last line of its error."""
    keys = plans.swept_keys(plan)
    runs = [read_run(plan.run_directory(n)) for n in range(len(plan.jobs))]
    metrics = metric_names(runs)
    rows = []
    for number, (job, run) in enumerate(zip(plan.jobs, runs, strict=True)):
        settings, report = plans.settings_of(job), read_report(plan, number)
        row: tables.Row = {"job": number, "status": status_of(plan, number)}
        row |= {key: settings.get(key) for key in keys}
        row |= {f"{s}/{m}": run.splits.get(s, {}).get(m) for s, m in metrics}
        row["wall_seconds"] = report.get("wall_seconds")
        row["error"] = one_line(report.get("error")) or None
        row["directory"] = str(number)
        rows.append(row)
    return rows


def summary_rows(plan: plans.Plan, numeric: bool = False) -> list[tables.Row]:
    """One row per setting: finished jobs, and mean ± sd of every metric over seeds and folds.

    `numeric` gives mean and sd columns of their own instead of "mean ± sd".
    """
    keys = [key for key in plans.swept_keys(plan) if key not in REPETITION_KEYS]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, job in enumerate(plan.jobs):
        settings = plans.settings_of(job)
        groups.setdefault(tuple(settings.get(key) for key in keys), []).append(number)
    rows = []
    for setting, numbers in groups.items():
        finished = [n for n in numbers if status_of(plan, n) == "done"]
        row: tables.Row = dict(zip(keys, setting, strict=True))
        row |= {"done": len(finished), "of": len(numbers)}
        runs = [read_run(plan.run_directory(n)) for n in finished]
        rows.append(row | _means(runs, numeric))
    return rows


def _means(runs: list[Run], numeric: bool) -> tables.Row:
    row: tables.Row = {}
    for split, metric in metric_names(runs):
        found = (run.splits.get(split, {}).get(metric) for run in runs)
        values = [float(value) for value in found if isinstance(value, (int, float))]
        if not numeric:
            row[f"{split}/{metric}"] = tables.mean_sd(values)
        elif values:
            row[f"{split}/{metric} mean"] = statistics.fmean(values)
            row[f"{split}/{metric} sd"] = statistics.stdev(values) if len(values) > 1 else None
    return row


def primary_column(plan: plans.Plan) -> str | None:
    """split/name of the primary metric, as the first finished job states it."""
    for number in range(len(plan.jobs)):
        primary = read_run(plan.run_directory(number)).primary
        if primary:
            return f"{primary['split']}/{primary['name']}"
    return None
