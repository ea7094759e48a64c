"""Panels of points: marks by group, and lines that lean as far as a point moves."""

import re

import pytest

from jde_ray.pipelines.report.canvas import Axis
from jde_ray.pipelines.report.panels import (
    NUM_SHAPES,
    Panel,
    PanelPoint,
    panel_chart,
    panel_picture,
)

X, Y = Axis("seconds", 0, 1, (0.0, 0.5, 1.0)), Axis("MOTA", 0, 100, (0.0, 50.0, 100.0))
KEYS = {"filled": "joint", "open": "apart", "crossed": "half"}


def panels(*rows):
    return [
        Panel(f"panel {number}", [PanelPoint(*point) for point in points], Y)
        for number, points in enumerate(rows)
    ]


def test_a_line_joins_twins_and_leans_by_what_is_slower():
    drawing = panel_chart(
        panels(
            [(0.2, 60, "IDE", "A", "open"), (0.4, 50, "joint", "B", "filled")],
            [(0.2, 30, "joint", "B", "filled"), (0.2, 40, "IDE", "A", "open")],
        ),
        X,
        KEYS,
    )
    lines = re.findall(r'class="twin" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"',
                       drawing)  # fmt: skip
    (a, b, c, d), (e, _, g, _) = [[float(number) for number in line] for line in lines]
    assert a == c
    assert b < d
    assert g < e
    assert drawing.count("<title>A + IDE:") == drawing.count("<title>B + joint:") == 2


def test_one_that_is_missing_below_has_no_line():
    drawing = panel_chart(
        panels([(0.2, 60, "IDE", "A", "open")], [(0.2, 60, "PCB", "A", "open")]), X, KEYS
    )
    assert "twin" not in drawing


@pytest.mark.parametrize(("filling", "arms"), [("filled", 0), ("open", 0), ("crossed", 1)])
def test_fillings_look_different(filling, arms):
    drawing = panel_chart(panels([(0.5, 50, "IDE", "A", filling)]), X, {})
    mark = drawing.split("<title>")[0].rsplit("<circle", 1)[1]
    assert ('fill="none"' in mark) == (filling != "filled")
    assert drawing.count("<path") == arms


def test_shapes_differ_until_there_are_no_more():
    points = [(0.5, 50, "IDE", f"D{number}", "open") for number in range(NUM_SHAPES)]
    drawing = panel_chart(panels(points), X, {})
    marks = re.findall(r'<polygon class="hollow"[^>]*points="([^"]+)"><title>', drawing)
    assert len(set(marks)) == NUM_SHAPES - 1


def test_names_are_escaped():
    drawing = panel_chart(panels([(0.5, 50, "<b>", "A&B", "open")]), X, {})
    assert "<b>" not in drawing
    assert "A&amp;B" in drawing


def test_the_picture_is_a_png():
    rows = ([(0.2, 60, "IDE", "A", "open")], [(0.4, 30, "IDE", "A", "crossed")])
    assert panel_picture(panels(*rows), X, KEYS).startswith(b"\x89PNG\r\n")
