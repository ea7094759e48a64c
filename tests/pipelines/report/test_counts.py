import re

import numpy as np
import pytest

from jde_ray.models.counting.places import Line, Places, Zone
from jde_ray.pipelines.report.counts import CameraView, Curve, counts_page, draw_places, step_chart

PLACES = Places(
    (Line("door <1>", (10, 20), (90, 20)),), (Zone("queue", ((10, 30), (60, 30), (60, 45))),)
)


def view(**changes):
    heat = np.zeros((36, 64), np.int64)
    heat[3, 4:7], heat[5, 5] = 1, 100
    values = {
        "camera": "hall & yard",
        "size": (100, 50),
        "places": PLACES,
        "ways": [("in", "out")],
        "heat": heat,
        "image": None,
        "label": str,
        "crossings": [Curve("door in", np.array([1.0, np.nan, 3.0]))],
        "people": [Curve("queue", np.array([0.5, np.nan, 0.0]))],
        "table": "<table></table>",
    }
    return CameraView(**values | changes)


def page(**changes):
    tiles = [("3", "videos")]
    return counts_page("runs/<x>", ("done", "good"), tiles, "lead", [view(**changes)], ["a: bad"])


def test_the_page_runs_no_script_loads_nothing_and_escapes_names():
    text = page()
    assert "<script" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    for name in ("hall &amp; yard", "door &lt;1&gt;", "runs/&lt;x&gt;", "a: bad"):
        assert name in text
    assert "<1>" not in text
    assert page() == text


def test_the_arrow_of_a_line_points_to_its_right():
    drawn = draw_places(view())
    ((x, y),) = re.findall(r'<polygon points="([\d.]+),([\d.]+) [^"]*" fill="[^"]*"/>', drawn)
    assert (float(x), float(y)) == (50 * 6.4, 20 * 6.4 + 22), "below a line from left to right"


def test_heat_is_drawn_by_runs_of_a_level():
    drawn = draw_places(view())
    assert "M4 3h3v1h-3z" in drawn
    assert "M5 5h1v1h-1z" in drawn
    assert 'preserveAspectRatio="none"' not in draw_places(view(heat=np.zeros((36, 64), int)))
    assert 'href="data:image/jpeg;base64,x"' in draw_places(view(image="data:image/jpeg;base64,x"))


def test_a_camera_of_unknown_size_has_no_picture_and_no_places_no_curves():
    assert "Places, and where" not in page(size=None, heat=None)
    assert "People in zones" not in page(people=[])


def test_a_curve_is_broken_where_nothing_was_recorded():
    drawn = step_chart([Curve("a", np.array([1.0, 2.0, np.nan, 1.0]))], str)
    (path,) = re.findall(r'<path class="line" d="([^"]*)"', drawn)
    assert path.count("M") == 2
    assert path.count("H") == 3
    assert step_chart([Curve("a", np.array([np.nan]))], str)


@pytest.mark.parametrize(("is_mean", "level"), [(True, 1.0), (False, 3.0)])
def test_buckets_that_share_a_step_are_added_up_or_averaged(is_mean, level):
    drawn = step_chart([Curve("a", np.ones(600))], str, is_mean=is_mean)
    (path,) = re.findall(r'<path class="line" d="([^"]*)"', drawn)
    assert path.count("H") == 200
    assert "3 buckets per step" in drawn
    (down,) = {float(one) for one in re.findall(r"[V ]([\d.]+)H", path)}
    texts = re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', drawn)
    (tick,) = [float(y) - 4 for y, text in texts if float(text) == level]
    assert down == pytest.approx(tick, abs=0.2)
