import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jde_ray.pipelines.report.canvas import PERCENT, Axis
from jde_ray.pipelines.report.charts import Line, bar_chart, line_chart, point_chart

NARROW = Axis("x", 0, 1, (0, 1))


def parse(drawing):
    return ElementTree.fromstring(drawing.partition("</svg>")[0] + "</svg>")  # noqa: S314


def test_lines_start_and_end_where_their_values_are():
    drawing = line_chart([Line("a", np.array([0.0, 1.0]), np.array([0.0, 1.0]))], NARROW, NARROW)
    points = parse(drawing).find("polyline").get("points")
    (left, foot), (right, top) = ([float(v) for v in p.split(",")] for p in points.split())
    assert (left, right, top, foot) == (40, 448, 10, 254)


def test_values_without_a_place_are_left_out():
    nan = np.array([np.nan, np.nan])
    drawing = line_chart([Line("gone", nan, nan), Line("b", nan[:0], nan[:0])], NARROW, PERCENT)
    assert parse(drawing).find("polyline") is None
    assert "gone" not in drawing
    assert parse(bar_chart(["a"], {"MOTA": [float("nan")]}, PERCENT)).find("rect") is None
    assert parse(point_chart({"a": (float("nan"), 0.5)}, NARROW, NARROW)).find("circle") is None


def test_long_lines_are_thinned_and_keep_their_ends():
    x = np.linspace(0, 1, 10_000)
    points = parse(line_chart([Line("a", x, x)], NARROW, NARROW)).find("polyline").get("points")
    assert len(points.split()) <= 400
    assert points.split()[-1] == "448.0,10.0"


def test_a_logarithmic_axis_spreads_powers_of_ten_evenly():
    axis = Axis("far", 1e-6, 1e-1, (), is_log=True)
    shares = axis.share(np.array([1e-6, 1e-5, 1e-1]))
    assert shares.tolist() == pytest.approx([0, 0.2, 1])


def test_bars_grow_with_their_values_and_stop_at_the_foot():
    drawing = bar_chart(["a", "b<"], {"MOTA": [0.5, -3.0]}, PERCENT)
    tall, flat = (float(bar.get("height")) for bar in parse(drawing).findall("rect"))
    assert (tall, flat) == (107, 0)
    assert "b&lt;" in drawing
    assert not re.search(r"b<\W", drawing.replace("</", ""))


def test_points_carry_their_names_where_there_is_room():
    far = point_chart({"left": (0.1, 0.5), "right": (0.95, 0.5)}, NARROW, NARROW)
    names = {t.text: float(t.get("x")) for t in parse(far).iterfind("text[@class='over']")}
    at = {c.find("title").text: float(c.get("cx")) for c in parse(far).iterfind("circle")}
    assert names["left"] > at["left"]
    assert names["right"] < at["right"]  # at the other side it would leave the grid
    crowd = point_chart({f"point {n}": (0.5, 0.5) for n in range(9)}, NARROW, NARROW)
    beside = parse(crowd).findall("text[@class='over']")
    assert 0 < len(beside) <= 4  # the key has the others
    assert crowd.count("<span>") == 9
