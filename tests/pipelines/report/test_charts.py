import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jde_ray.pipelines.report.canvas import (
    NUM_STYLES,
    PALETTE,
    PERCENT,
    Axis,
    draw_point,
    fitted_axis,
    line_key,
    point_key,
    shortened,
)
from jde_ray.pipelines.report.charts import (
    Interval,
    Line,
    bar_chart,
    interval_chart,
    line_chart,
    point_chart,
)

# What people see without one kind of cones, of linear RGB (Machado et al., 2009)
SIGHT = {
    "usual": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
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


def linear(colour):
    part = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    weights = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(weights) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart_by_everybody(sight):
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25


def test_colours_are_legible_on_light_and_dark_pages():
    for colour, ground in itertools.product(PALETTE, ("#ffffff", "#191f27")):
        low, high = sorted(
            float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (colour, ground)
        )
        assert (high + 0.05) / (low + 0.05) > 1.9, (colour, ground)


def test_lines_and_points_beyond_the_colours_look_different_and_so_do_their_keys():
    points = {re.sub(r"<title.*", "", draw_point(0, 0, n, "")) for n in range(NUM_STYLES)}
    assert len(points) == len({point_key(n) for n in range(NUM_STYLES)}) == NUM_STYLES
    lines = [Line(str(n), np.array([0.0, 1.0]), np.array([0.0, 1.0])) for n in range(NUM_STYLES)]
    drawn = parse(line_chart(lines, NARROW, NARROW)).findall("polyline")
    assert len({(one.get("stroke"), one.get("stroke-dasharray")) for one in drawn}) == NUM_STYLES
    assert len({line_key(n) for n in range(NUM_STYLES)}) == NUM_STYLES


@pytest.mark.parametrize(
    ("values", "scale"),
    [([0.0, -12.3, 4.0], 1), ([0.44, 0.617], 100), ([0.5], 100), ([], 1), ([np.nan, 2.0], 1),
     ([-3000.0, 12.0], 1), ([0.1, 0.1001], 1)],
    ids=str,
)  # fmt: skip
def test_a_fitted_axis_surrounds_its_values_with_few_round_ticks(values, scale):
    axis = fitted_axis("x", values, scale)
    known = [value for value in values if np.isfinite(value)]
    assert all(axis.low < value < axis.high for value in known)
    assert 2 <= len(axis.ticks) <= 9
    assert list(axis.text) == list(axis.ticks) == sorted(axis.ticks)
    assert [float(text) for text in axis.text.values()] == pytest.approx(
        [scale * tick for tick in axis.ticks]
    )


def test_long_names_below_bars_are_slanted_and_stay_inside():
    short = parse(bar_chart(["a", "b"], {"MOTA": [0.5, 0.5]}, PERCENT))
    assert short.get("viewBox") == "0 0 460 260"
    assert not [one for one in short.iter("text") if "rotate(-50)" in one.get("transform", "")]
    names = [f"MOT17-{n:02d}-FRCNN-entrance" for n in range(12)]
    drawn = parse(bar_chart(names, {"MOTA": [0.5] * 12}, PERCENT))
    texts = [one for one in drawn.iter("text") if "rotate(-50)" in one.get("transform", "")]
    assert [one.find("title").text for one in texts] == names
    left, top, _, height = map(float, drawn.get("viewBox").split())
    for one in texts:
        across, down = map(float, re.findall(r"translate\(([\d.]+) ([\d.]+)\)", str(one.attrib))[0])
        wide = 6.8 * len(one.text)
        assert across - wide * np.cos(np.deg2rad(50)) > left
        assert top < down + wide * np.sin(np.deg2rad(50)) < height
    starts = [float(re.findall(r"translate\(([\d.]+)", one.get("transform"))[0]) for one in texts]
    assert min(np.diff(starts)) * np.sin(np.deg2rad(50)) > 12  # the height of a line of text


def test_names_lose_their_middle():
    assert shortened("a" * 24) == "a" * 24
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert len(shortened("x" * 99)) == 24


def test_texts_beside_points_and_curves_do_not_meet():
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = {f"result {n}": tuple(rng.random(2)) for n in range(14)}
        x = np.linspace(0.1, 1, 30)
        curves = [Line(f"HOTA {k}", x, k / 100 / x) for k in (4, 16, 36)]
        boxes = []
        for one in parse(point_chart(points, NARROW, NARROW, curves)).iterfind(
            "text[@class='over']"
        ):
            wide, at, down = 6.0 * len(one.text), float(one.get("x")), float(one.get("y"))
            left = at - {"start": 0, "middle": wide / 2, "end": wide}[one.get("text-anchor")]
            boxes.append((left, down - 8, left + wide, down + 2))
        assert len(boxes) > len(points) / 2  # those without room are left out
        for a, b in itertools.combinations(boxes, 2):
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def test_intervals_stand_at_their_values_beside_0():
    rows = {"HOTA": [Interval("a<", -1.0, -2.0, 1.0)], "MOTA": [Interval("a<", 2.0, *[np.nan] * 2)]}
    drawing = interval_chart(rows, Axis("points", -2, 2, (-2, 0, 2)), first=1)
    drawn = ElementTree.fromstring(drawing)[0]  # noqa: S314
    (zero,) = drawn.findall("line[@class='zero']")
    ticks = [float(line.get("x1")) for line in drawn.findall("line[@class='grid']")]
    assert float(zero.get("x1")) == ticks[1]
    (path,) = drawn.findall("path")  # the other has no interval
    ends = [
        float(number) for number in re.match(r"M([\d.]+) [\d.]+H([\d.]+)", path.get("d")).groups()
    ]
    assert ends == pytest.approx([ticks[0], (ticks[1] + ticks[2]) / 2], abs=0.1)
    centres = [float(one.get("cx")) for one in drawn.findall("circle")]
    assert centres == pytest.approx([(ticks[0] + ticks[1]) / 2, ticks[2]], abs=0.1)
    assert {one.get("fill") for one in drawn.findall("circle")} == {PALETTE[1]}
    assert [one.text for one in drawn.findall("text[@class='group']")] == ["HOTA", "MOTA"]
