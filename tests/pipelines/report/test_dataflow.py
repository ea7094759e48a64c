"""The drawing in the README is the one that its command makes, and its words fit their boxes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from places import ROOT

from jde_ray.pipelines.report.dataflow import dataflow_drawing

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 0.56  # of the font size, the average width of a letter


def test_the_readme_has_the_drawing_of_the_command():
    assert (ROOT / "docs/images/dataflow.svg").read_text("utf-8") == dataflow_drawing()


def test_the_readme_opens_with_pictures_that_exist_and_are_small():
    text = (ROOT / "README.md").read_text("utf-8")
    images = [ROOT / place for place in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)]
    assert [image.name for image in images] == ["people.webp", "dataflow.svg"]
    assert text.index("](docs/images/dataflow.svg)") < text.index("\n## ")
    assert sum(image.stat().st_size for image in images) < 300_000


def test_words_fit_their_boxes_and_colours_change_with_the_page():
    drawing = ElementTree.fromstring(dataflow_drawing())  # noqa: S314  our own text
    boxes = [
        [float(one.get(name)) for name in ("x", "y", "width", "height")]
        for one in drawing.iter(f"{SVG}rect")
        if one.get("class") == "box"
    ]
    texts = [one for one in drawing.iter(f"{SVG}text") if one.get("class") in ("name", "text")]
    assert len(texts) == 6 * 4
    for text in texts:
        size = 16 if text.get("class") == "name" else 12.5
        half = len(text.text) * size * LETTER / 2
        x, y = float(text.get("x")), float(text.get("y"))
        assert any(
            left < x - half and x + half < left + wide and top + size < y < top + tall - 4
            for left, top, wide, tall in boxes
        ), text.text
    style = drawing.find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in ("page", "band", "box", "name", "text", "soft", "line", "tip"):
        assert f".{name} {{" in light
        assert f".{name} {{" in dark
