"""What a contributor may forget: each test names the step of CONTRIBUTING.md that is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import fakes
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.models.tracking import trackers
from jde_ray.models.tracking.registry import ASSOCIATIONS
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.names import VIDEO_SUFFIXES
from jde_ray.pipelines.row_format import ROW_FORMAT
from jde_ray.pipelines.tracking import reference

ROOT = Path(__file__).parents[1]
# columns by row format; those of a format that files have been written in are never changed
TRACKS = {
    3: "video_id video frame time_s track_id x1 y1 x2 y2 score embedding",
    4: "video_id video camera frame time_s time track_id x1 y1 x2 y2 score class embedding",
    5: "video_id video camera frame time_s time track_id x1 y1 x2 y2 score class embedding",
}
DETECTIONS = {
    3: "frame time_s camera_motion boxes scores embeddings",
    4: "camera frame time_s time camera_motion boxes scores classes embeddings",
    5: "camera frame time_s time camera_motion boxes scores classes embeddings qualities",
}


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_tracker_has_a_row_in_the_registry_and_a_line_in_the_documents():
    modules = {
        path.stem for path in Path(trackers.__file__).parent.glob("*.py") if path.stem != "__init__"
    }
    modules -= {"jde", "published"}  # the two modes of `jde`
    assert modules == set(ASSOCIATIONS) - {"jde"}, "models/tracking/registry.py lacks a row"
    for name in ASSOCIATIONS:
        assert f"`{name}`" in doc("association.md"), f"docs/association.md says nothing of {name}"


def test_columns_are_those_of_their_row_format(tmp_path: Path):
    """If this fails after a change of columns, raise ROW_FORMAT and add the new columns above."""
    source = fakes.archive(tmp_path / "in", a=Script(frames=4))
    outputs = OutputConfig(save_detections=True, save_embeddings=True)
    out = tmp_path / "out"
    components = replace(fakes.COMPONENTS, build_model=fakes.JudgingModel)
    reference.track([str(source)], str(out), fakes.CONFIG, components=components, outputs=outputs)
    for folder, columns in (("tracks", TRACKS), ("detections", DETECTIONS)):
        (path,) = (out / folder).iterdir()
        assert pq.read_schema(path).names == columns[ROW_FORMAT].split(), folder


@pytest.mark.parametrize(
    ("columns", "page"), [(TRACKS, "architecture.md"), (DETECTIONS, "storage.md")]
)
def test_every_column_is_documented(columns: dict[int, str], page: str):
    for column in columns[ROW_FORMAT].split():
        assert re.search(rf"`[^`\n]*\b{column}\b[^`\n]*`", doc(page)), f"docs/{page}: {column}"


def test_every_suffix_of_a_source_is_documented():
    for suffix in VIDEO_SUFFIXES:
        assert f"`{suffix}`" in doc("storage.md"), f"docs/storage.md says nothing of {suffix}"


def test_every_call_of_the_service_is_documented():
    routes = (ROOT / "pipelines/serving/api/routes.py").read_text()
    calls = routes.partition("_CALLS = {")[2].partition("}\n")[0].split('"')[1::2]
    paths = [text for text in calls if text.startswith("/")]
    assert len(paths) > 8
    text = doc("serving.md")
    for path in paths:
        assert path == "/" or f"`{path}`" in text or f" {path}`" in text, path
