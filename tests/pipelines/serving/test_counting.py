"""The service with places: a video sent frame by frame gives the events of `jde count`."""

from __future__ import annotations

import json
from dataclasses import replace

import fakes
import pyarrow.parquet as pq
import pytest
import yaml
from serving_clips import offline_rows, write_clips
from serving_service import CONFIG, TRACK, png, running

from jde_ray.pipelines.counting.run import count
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import parse_places
from jde_ray.pipelines.serving.client.connection import connect
from jde_ray.pipelines.serving.config import read_config

PLACES = {
    "units": "shares",
    "places": [
        {"name": "middle", "line": [[0.5, 1.0], [0.5, 0.0]]},
        {"name": "left", "zone": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
        {"name": "door", "camera": "hall", "line": [[0, 0.5], [1, 0.5]]},
    ],
}
NAMES = ("frame", "track_id", "place", "direction", "time_s", "x", "y", "duration_s")
FRAMES = 60


@pytest.fixture(scope="module")
def service():
    with running(config=replace(CONFIG, places=parse_places(PLACES))) as it:
        yield it


def told(events):
    return sorted(repr([event.get(name) for name in NAMES]) for event in events)


def test_a_video_sent_frame_by_frame_gives_the_events_of_jde_count(service, tmp_path):
    (images,) = write_clips(tmp_path, 1, FRAMES)
    offline_rows(tmp_path, TRACK, fakes.Components(build_model=fakes.ColourModel))
    own = {**PLACES, "places": PLACES["places"][:2]}  # those of every camera
    count(tmp_path / "out", str(tmp_path / "to"), CountConfig(places=parse_places(own)))
    wanted = told(pq.read_table(tmp_path / "to" / "events.parquet").to_pylist())
    assert len(wanted) > 4
    with connect(service.url).stream(25.0, encoding="png") as stream:
        assert len(list(stream.track(images))) == FRAMES
        before = len(stream.events)
    assert told(stream.events) == wanted
    assert before < len(stream.events), "who is still inside leaves at the end"

    name, events = service.open(rate=25.0), []
    for seq, image in enumerate(images):
        status, answer, _ = service.call("POST", f"/v1/streams/{name}/frames/{seq}", png(image))
        assert status == 200, answer
        events += answer["events"]
    status, answer, _ = service.call("DELETE", f"/v1/streams/{name}")
    assert (status, answer["stream"]) == (200, name)
    assert told(events + answer["events"]) == wanted


def test_a_stream_names_its_camera(service, tmp_path):
    (images,) = write_clips(tmp_path, 1, 2)
    with connect(service.url).stream(25.0, camera="hall") as stream:
        assert len(list(stream.track(images))) == 2
    body = json.dumps({"camera": 5}).encode()
    status, answer, _ = service.call("POST", "/v1/streams", body, kind="application/json")
    assert (status, answer["error"]) == (422, "invalid")


def test_places_are_read_from_settings_and_from_a_file(tmp_path):
    assert read_config({"places": PLACES}).places == parse_places(PLACES)
    (tmp_path / "places.yaml").write_text(yaml.safe_dump(PLACES))
    assert read_config({"places": str(tmp_path / "places.yaml")}).places == parse_places(PLACES)
    assert read_config({}).places is None
    with pytest.raises(ValueError, match="places: expected a list `places`"):
        read_config({"places": {"lines": []}})
