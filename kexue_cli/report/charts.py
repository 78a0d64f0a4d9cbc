"""Charts as SVG text: curves, parallel coordinates, the interaction of two parameters.

Colours are CSS variables, so that a chart follows the page's light or dark theme.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from kexue_cli.manage.tables import shown

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 28
COLOURS = 6
MOST_POINTS = 400


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] to [start, end] pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixel of a value; a range of no width is drawn in the middle."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 5 times a power of ten) inside [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of them: bucket means, so that no spike is picked by chance."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = len(points) / MOST_POINTS
    thinned = []
    for i in range(MOST_POINTS):
        bucket = points[int(i * size) : int((i + 1) * size)]
        x, y = zip(*bucket, strict=True)
        thinned.append((sum(x) / len(x), sum(y) / len(y)))
    return thinned


def curves(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines over steps, one per name, with legend and a reading of values under the pointer."""
    thinned = {name: thin(points) for name, points in series.items()}
    xs = [x for points in thinned.values() for x, _ in points]
    ys = [y for points in thinned.values() for _, y in points]
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    margin = (max(ys) - min(ys)) * 0.05
    y = Scale(min(ys) - margin, max(ys) + margin, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y)]
    for i, (name, points) in enumerate(thinned.items()):
        parts.append(_line(points, x, y, i, name))
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    data = [
        {"name": name, "x": [round(p[0], 6) for p in points], "y": [p[1] for p in points]}
        for name, points in thinned.items()
    ]
    attributes = (
        f'data-curves="{escape(json.dumps(data), quote=True)}" '
        f'data-x="{x.start} {x.end} {x.low} {x.high}"'
    )
    return legend(list(thinned)) + _svg(parts, attributes) + '<div class="reading"></div>'


def _line(points: Sequence[tuple[float, float]], x: Scale, y: Scale, colour: int, name: str) -> str:
    stroke = f"var(--c{colour % COLOURS})"
    title = f"<title>{escape(name)}</title>"
    if len(points) == 1:
        (px, py), *_ = points
        return f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="4" fill="{stroke}">{title}</circle>'
    path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in points)
    return f'<polyline class="curve" stroke="{stroke}" points="{path}">{title}</polyline>'


def legend(names: Sequence[str]) -> str:
    """Names with their colours."""
    keys = (
        f'<span class="key"><i style="background:var(--c{i % COLOURS})"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return f"<div>{''.join(keys)}</div>"


def _axes(x: Scale, y: Scale) -> str:
    bottom = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}"/>']
    for value in ticks(y.low, y.high, 4):
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">')
        parts.append(f"{shown(value)}</text>")
    for value in ticks(x.low, x.high, 5):
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 16}" text-anchor="middle">')
        parts.append(f"{shown(value)}</text>")
    return "".join(parts)


def _svg(
    parts: Sequence[str], attributes: str = "", width: float = WIDTH, height: float = HEIGHT
) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" {attributes}>'
        + "".join(parts)
        + "</svg>"
    )


def parallel_coordinates(rows: Sequence[Mapping[str, object]], axes: Sequence[str]) -> str:
    """One line per setting through its values to its score, the last axis; high scores are strong.

    Where lines meet in a value they are spread a little, in order of their scores.
    """
    width, height, top, bottom = max(480, 130 * len(axes)), 300, 40, 270
    places = {name: 60 + i * (width - 120) / max(1, len(axes) - 1) for i, name in enumerate(axes)}
    scales = {name: _axis_positions([row[name] for row in rows], top, bottom) for name in axes}
    ordered = sorted(rows, key=lambda row: float(str(row[axes[-1]])))
    shade = Scale(0, max(1, len(rows) - 1), 0.12, 1.0)
    spread = Scale(0, max(1, len(rows) - 1), 8, -8)
    parts = []
    for place, row in enumerate(ordered):
        offset = dict.fromkeys(axes[:-1], spread(place)) | {axes[-1]: 0.0}
        path = " ".join(f"{places[n]:.1f},{scales[n][row[n]] + offset[n]:.1f}" for n in axes)
        title = ", ".join(f"{name} {shown(row[name])}" for name in axes)
        parts.append(
            f'<polyline class="curve faint" stroke="var(--c0)" stroke-opacity="{shade(place):.2f}" '
            f'points="{path}"><title>{escape(title)}</title></polyline>'
        )
    for name in axes:
        parts.append(_vertical_axis(name, places[name], scales[name], top, bottom))
    return _scrolling(
        _svg(parts, f'style="min-width:{width}px;max-width:{width * 1.5:g}px"', width, height)
    )


def _axis_positions(values: Sequence[object], top: float, bottom: float) -> dict[object, float]:
    """Pixel of every value: numbers by size, words (and powers) in equal steps."""
    distinct = list(dict.fromkeys(values))
    numbers = [v for v in distinct if isinstance(v, (int, float))]
    if len(numbers) == len(distinct) and len(distinct) > 6:
        scale = Scale(min(numbers), max(numbers), bottom, top)
        return {value: scale(float(value)) for value in numbers}
    ordered = sorted(distinct, key=lambda v: (not isinstance(v, (int, float)), v))
    scale = Scale(0, max(1, len(ordered) - 1), bottom, top)
    return {value: scale(i if len(ordered) > 1 else 0.5) for i, value in enumerate(ordered)}


def _vertical_axis(
    name: str, place: float, positions: Mapping[object, float], top: float, bottom: float
) -> str:
    parts = [f'<path class="axis" d="M{place:.1f},{top}V{bottom}"/>']
    parts.append(f'<text class="ink" x="{place:.1f}" y="16" text-anchor="middle">')
    parts.append(f"{escape(name)}</text>")
    marked = list(positions.items())
    if len(marked) > 6:
        marked = [min(marked, key=lambda item: item[1]), max(marked, key=lambda item: item[1])]
    for value, y in marked:
        parts.append(f'<text x="{place + 5:.1f}" y="{y + 4:.1f}">{escape(shown(value))}</text>')
    return "".join(parts)


def interaction(cells: Mapping[tuple[str, str], float], row_name: str, column_name: str) -> str:
    """Mean score for every pair of two parameters' values, as a shaded grid."""
    row_values = list(dict.fromkeys(row for row, _ in cells))
    column_values = list(dict.fromkeys(column for _, column in cells))
    cell_width, cell_height, left, top = 76, 34, 96, 44
    width, height = left + cell_width * len(column_values), top + cell_height * len(row_values)
    shade = Scale(min(cells.values()), max(cells.values()), 0.08, 0.6)
    parts = [
        f'<text class="ink" x="{left}" y="14">{escape(column_name)} →</text>',
        f'<text class="ink" x="0" y="{top - 6}">{escape(row_name)} ↓</text>',
    ]
    for j, value in enumerate(column_values):
        x = left + cell_width * (j + 0.5)
        parts.append(f'<text x="{x:g}" y="{top - 6}" text-anchor="middle">{escape(value)}</text>')
    for i, row in enumerate(row_values):
        y = top + cell_height * i
        parts.append(f'<text x="0" y="{y + 21}">{escape(row)}</text>')
        for j, column in enumerate(column_values):
            if (row, column) in cells:
                score = cells[row, column]
                x = left + cell_width * j
                parts.append(_grid_cell(x, y, cell_width, cell_height, shade(score), shown(score)))
    return _scrolling(_svg(parts, f'style="max-width:{width * 1.3:g}px"', width, height))


def _scrolling(svg: str) -> str:
    return f'<div class="scroll">{svg}</div>'


def _grid_cell(x: float, y: float, width: float, height: float, opacity: float, text: str) -> str:
    return (
        f'<rect x="{x + 1}" y="{y + 1}" width="{width - 2}" height="{height - 2}" rx="3" '
        f'fill="var(--c0)" fill-opacity="{opacity:.2f}"/>'
        f'<text class="ink" x="{x + width / 2}" y="{y + 21}" text-anchor="middle">{text}</text>'
    )
