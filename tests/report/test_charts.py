from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from kexue_cli.report import charts


def numbers_of(svg: str, tag: str, attribute: str) -> list[list[float]]:
    tree = ElementTree.fromstring(f"<div>{svg}</div>")
    found = [element.attrib[attribute] for element in tree.iter() if element.tag.endswith(tag)]
    return [[float(n) for n in re.findall(r"-?\d+\.?\d*", text)] for text in found]


@pytest.mark.parametrize("bounds", [(0, 1), (0, 3000), (-2.5, 7.1), (1e-5, 9e-5), (0.83, 0.84)])
def test_ticks_are_round_and_inside(bounds: tuple[float, float]) -> None:
    low, high = bounds
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 11
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    step = found[1] - found[0]
    assert float(f"{step:.0e}"[0]) in (1, 2, 5)


def test_ticks_of_a_single_value_are_that_value() -> None:
    assert charts.ticks(3, 3) == [3]


def test_curves_stay_inside_their_frame_and_keep_their_order() -> None:
    svg = charts.curves({"train": [(0, 5.0), (10, 1.0)], "valid": [(5, 3.0)]})
    ((x0, y0, x1, y1),) = numbers_of(svg, "polyline", "points")
    assert charts.LEFT == x0 < x1 == charts.WIDTH - charts.RIGHT
    assert charts.TOP <= y0 < y1 <= charts.HEIGHT - charts.BOTTOM
    ((cx,),) = numbers_of(svg, "circle", "cx")
    assert cx == pytest.approx((x0 + x1) / 2)


def test_a_constant_curve_has_a_place() -> None:
    svg = charts.curves({"lr": [(0, 0.1), (1, 0.1)]})
    assert "nan" not in svg.lower()


def test_thinning_keeps_the_mean_and_the_number_small() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_000)]
    thinned = charts.thin(points)
    assert len(thinned) == charts.MOST_POINTS
    mean = sum(y for _, y in points) / len(points)
    assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(mean, abs=1e-2)


def test_interaction_shades_the_higher_score_stronger() -> None:
    svg = charts.interaction({("1", "a"): 0.1, ("1", "b"): 0.9, ("2", "a"): 0.5}, "row", "column")
    low, high, middle = (n[0] for n in numbers_of(svg, "rect", "fill-opacity"))
    assert low < middle < high


def test_names_are_escaped() -> None:
    svg = charts.curves({"<b>&": [(0, 1.0), (1, 2.0)]})
    ElementTree.fromstring(f"<div>{svg}</div>")
    assert "<b>" not in svg


def test_parallel_coordinates_draw_one_line_per_row_and_take_words() -> None:
    rows = [{"a": 1.0, "b": "x", "score": 0.1}, {"a": "default", "b": "y", "score": 0.3}]
    svg = charts.parallel_coordinates(rows, ["a", "b", "score"])
    assert len(numbers_of(svg, "polyline", "points")) == 2
