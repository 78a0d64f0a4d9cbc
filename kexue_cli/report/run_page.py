"""The page of one run."""

from __future__ import annotations

import csv
import json
import math
from html import escape
from pathlib import Path

from kexue_cli.manage import tables
from kexue_cli.manage.commands.show import metric_rows
from kexue_cli.manage.published import published_rows
from kexue_cli.manage.store import Run
from kexue_cli.report import charts, html

TABLE_ROWS = 60
HEAD_ROWS = 12
SAMPLE_CHARACTERS = 20_000
LARGEST_PICTURE_BYTES = 4 << 20
# Their columns are known and not what a reader of the page looks for.
HEADS_ONLY = ("predictions.csv", "predictions_valid.csv", "submission.csv", "splits.csv")
NOT_CURVES = ("step", "epoch", "split", "stage")


def run_page(run: Run) -> str:
    """The whole page as HTML."""
    record = run.record
    title = f"{record.get('task', '?')} · {record.get('model', '?')} · {run.name}"
    return html.page(
        title,
        [
            _head(run),
            html.section("Published and obtained", html.table(published_rows(run))),
            html.section("Metrics", html.table(metric_rows(run))),
            html.section("Curves", curves(run)),
            html.section("Pictures", pictures(run)),
            html.section("Samples", samples(run)),
            html.section("Tables", small_tables(run)),
            html.section("Predictions", heads(run)),
            html.section("Configuration", _configuration(run)),
            html.section("Environment", html.table(_environment(run))),
        ],
    )


def _head(run: Run) -> str:
    record, primary = run.record, run.primary
    parts = [
        f"<h1>{escape(str(record.get('task', '?')))} · {escape(str(record.get('model', '?')))}"
    ]
    parts.append(f" · {escape(str(record.get('data', '?')))}</h1>")
    parts.append(f"<p>{html.badge(run.status)} <span class=soft>{escape(str(run.path))}</span></p>")
    if run.problem:
        parts.append(f"<p class=failed>{escape(run.problem)}</p>")
    if record.get("error"):
        parts.append(html.pre(str(record["error"])))
    score = tables.shown(primary.get("value")) if primary else ""
    items = [(f"{primary.get('split')}/{primary.get('name')}", score)] if primary else []
    items += [
        ("time", tables.duration(record.get("wall_seconds"))),
        ("seed", tables.shown(record.get("seed"))),
        ("device", f"{record.get('device', '')} {record.get('precision', '')}".strip()),
    ]
    parts.append(html.headline(items))
    if record.get("command"):
        parts.append(html.pre(" ".join(map(str, record["command"]))))
    return "".join(parts)


def curves(run: Run) -> str:
    """One chart per metric, one line per split."""
    series = read_curves(run.path / "metrics.jsonl")
    figures = [html.figure(escape(name), charts.curves(lines)) for name, lines in series.items()]
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def read_curves(path: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Metric → split → (step, value) of a metrics.jsonl; broken lines are left out."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), (int, float)):
            continue
        split = str(entry.get("split", ""))
        for name, value in entry.items():
            if name in NOT_CURVES or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if math.isfinite(value):
                series.setdefault(name, {}).setdefault(split, []).append((entry["step"], value))
    return series


def pictures(run: Run) -> str:
    """The task's own pictures, inside the page."""
    paths = sorted((run.path / "plots").glob("*.png"))
    shown = [html.picture(p) for p in paths if p.stat().st_size <= LARGEST_PICTURE_BYTES]
    large = [p.name for p in paths if p.stat().st_size > LARGEST_PICTURE_BYTES]
    note = f"<p class=soft>too large for the page: {escape(', '.join(large))}</p>" if large else ""
    return (f'<div class="grid">{"".join(shown)}</div>' if shown else "") + note


def samples(run: Run) -> str:
    """Texts that the run made: samples*.txt, generated*.txt, before_after.txt."""
    patterns = ("*sample*.txt", "*generated*.txt", "before_after.txt")
    paths = [p for pattern in patterns for p in run.path.glob(pattern)]
    parts = []
    for path in sorted(set(paths)):
        text = path.read_text(encoding="utf-8", errors="replace")[:SAMPLE_CHARACTERS]
        parts.append(f"<h3>{escape(path.name)}</h3>{html.pre(text)}")
    pages = sorted(p for p in run.path.glob("*.html") if p.name != "report.html")
    links = (f'<li><a href="{escape(p.name)}">{escape(p.name)}</a></li>' for p in pages)
    return "".join(parts) + (f"<ul>{''.join(links)}</ul>" if pages else "")


def small_tables(run: Run) -> str:
    """The run's own CSV tables, as far as they are short."""
    parts = []
    for path in sorted(run.path.glob("*.csv")):
        if path.name in HEADS_ONLY:
            continue
        rows = read_rows(path, TABLE_ROWS + 1)
        if rows:
            cut = " (first rows)" if len(rows) > TABLE_ROWS else ""
            parts.append(html.details(path.name + cut, html.table(rows[:TABLE_ROWS])))
    return "".join(parts)


def heads(run: Run) -> str:
    """The first rows of the predictions and of the submission."""
    parts = []
    for name in ("predictions.csv", "submission.csv"):
        rows = read_rows(run.path / name, HEAD_ROWS, header=name != "submission.csv")
        if rows:
            parts.append(html.details(f"{name}, first rows", html.table(rows)))
    return "".join(parts)


def read_rows(path: Path, limit: int, header: bool = True) -> list[tables.Row]:
    """The first rows of a CSV; without header the columns are numbered."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file)
            names = next(reader, []) if header else None
            lines = [line for line, _ in zip(reader, range(limit), strict=False)]
    except OSError:
        return []
    if names is None:
        names = [str(i + 1) for i in range(max(map(len, lines), default=0))]
    return [dict(zip(names, map(_number_or_text, line), strict=False)) for line in lines]


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    # Ids such as 007 and counts stay as they are written.
    return text if text.lstrip("-").isdigit() or not math.isfinite(number) else number


def _configuration(run: Run) -> str:
    rows = [{"key": key, "value": value} for key, value in run.config.items()]
    overrides = run.record.get("overrides") or []
    given = (
        f"<p>Given: <code>{escape(' '.join(map(str, overrides)))}</code></p>" if overrides else ""
    )
    return given + (html.details("all settings", html.table(rows)) if rows else "")


def _environment(run: Run) -> list[tables.Row]:
    record = run.record
    rows = [
        {"what": key.replace("_", " "), "value": record[key]}
        for key in ("started", "ended", "platform", "device_name", "threads", "git_commit")
        if record.get(key) is not None
    ]
    rows += [
        {"what": key.replace("_", " "), "value": record[key]}
        for key in ("data_fingerprint", "config_hash")
        if record.get(key)
    ]
    if record.get("peak_memory_bytes"):
        rows.append(
            {"what": "peak memory", "value": f"{record['peak_memory_bytes'] / 2**20:.0f} MiB"}
        )
    for stage, rate in (record.get("throughput") or {}).items():
        if isinstance(rate, dict):
            value = f"{tables.shown(rate.get('value'))} {rate.get('unit', '')}"
            rows.append({"what": f"rate, {stage}", "value": value})
    versions = record.get("versions") or {}
    return rows + [{"what": name, "value": version} for name, version in versions.items()]
