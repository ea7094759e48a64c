import cv2
import numpy as np
import pytest
import yaml
from counted_tracks import PLACES, WALKS, rows_of, write_tracks
from made_videos import write_video

from jde_ray.pipelines.counting.preview import draw_places
from jde_ray.pipelines.counting.run import count
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import parse_places
from jde_ray.pipelines.sources.discovery import find_videos

GROUND = """
  - ground:
      image: [[0.2, 0.5], [0.8, 0.5], [1, 1], [0, 1]]
      metres: [[0, 9], [8, 9], [8, 0], [0, 0]]
"""


@pytest.fixture
def settings():
    return CountConfig(places=parse_places(yaml.safe_load(PLACES + GROUND)))


def test_places_are_drawn_where_they_are(settings):
    image = np.full((360, 640, 3), 128, np.uint8)
    places = settings.places.of_camera("hall", (640, 360))
    drawn = draw_places(image, places)
    assert (drawn != image).any(axis=2)[20:340, 320].mean() > 0.9, "the line"
    assert (drawn[300, 512] != 128).any(), "the zone is filled"
    assert (drawn[100:110, 100:110] == 128).all()
    assert (image == 128).all(), "the frame itself is kept"


def test_a_frame_of_each_camera_is_drawn_and_shown_on_the_page(tmp_path, settings, caplog):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", 3)
    write_video(tmp_path / "videos" / "b.mp4", 3)
    (tmp_path / "videos" / "b.mp4").write_bytes(b"broken")
    found, _ = find_videos([str(tmp_path / "videos")])
    for video in found:
        write_tracks(
            tmp_path / "out", video.video_id, rows_of(*WALKS), camera=f"{video.name}/1",
            size=(160, 120),
        )  # fmt: skip
    count(tmp_path / "out", str(tmp_path / "to"), settings, preview=str(tmp_path / "videos"))
    (picture,) = (tmp_path / "to" / "preview").iterdir()
    assert picture.name.startswith("a-1-")
    assert cv2.imread(str(picture)).shape[2] == 3
    assert (tmp_path / "to" / "counts.html").read_text().count("data:image/jpeg;base64,") == 1
    assert "camera b/1 has no preview" in caplog.text


def test_several_sources_are_looked_through_and_a_camera_without_a_video_is_named(
    tmp_path, settings, caplog
):
    for name in ("a", "b", "gone"):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / f"{name}.mp4", 3)
    found, _ = find_videos([str(tmp_path)])
    for video in found:
        write_tracks(
            tmp_path / "out", video.video_id, rows_of(*WALKS), camera=video.name, size=(160, 120)
        )
    sources = [str(tmp_path / name) for name in ("a", "b", "nowhere.mp4")]
    count(tmp_path / "out", str(tmp_path / "to"), settings, preview=sources)
    assert {path.name for path in (tmp_path / "to" / "preview").iterdir()} == {"a.jpg", "b.jpg"}
    assert "camera gone: no preview, since no video of the source is theirs" in caplog.text
    assert "nowhere.mp4" in caplog.text


def test_videos_without_tracks_are_refused(tmp_path, settings):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", 3)
    write_tracks(tmp_path / "out", "other", rows_of(*WALKS))
    with pytest.raises(ValueError, match="preview: none of these videos has tracks in OUT"):
        count(tmp_path / "out", str(tmp_path / "to"), settings, preview=str(tmp_path / "videos"))
