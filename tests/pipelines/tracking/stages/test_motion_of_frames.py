"""The camera's motion of public boxes whose frames are at hand: that of a run over the frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_videos import pan_frame, write_images

from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.detections import SavedVideo
from jde_ray.pipelines.sources.saved_detections import find_saved, with_frames
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking.from_detections import resolve_settings
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.stages.read import saved_chunks
from jde_ray.pipelines.video.chunks import decode_segment

SIZE, NUM_FRAMES = (320, 192), 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder / "S", NUM_FRAMES, rate=10, size=SIZE, draw=pan_frame)
    return folder


def boxes(folder: Path, num_frames: int, size: tuple[int, int] = SIZE) -> SavedVideo:
    """MOT text of a sequence S with one box per frame."""
    (folder / "S" / "det").mkdir(parents=True)
    lines = [f"{frame + 1},-1,20,20,30,80,0.9\n" for frame in range(num_frames)]
    (folder / "S" / "det" / "det.txt").write_text("".join(lines))
    info = f"frameRate=10\nseqLength={num_frames}\nimWidth={size[0]}\nimHeight={size[1]}\n"
    (folder / "S" / "seqinfo.ini").write_text(f"[Sequence]\nname=S\n{info}")
    (saved,) = find_saved([str(folder)])
    return saved


def read(saved: SavedVideo, config: TrackConfig, start: int = 0) -> np.ndarray:
    segment = Segment(saved.video, start_frame=start)
    chunks = list(saved_chunks(saved, segment, config, 4))
    assert chunks[-1].error is None, chunks[-1].error
    return np.concatenate([chunk.camera_motion for chunk in chunks])


@pytest.mark.parametrize("stride", [1, 2])
def test_the_motion_is_that_of_a_run_over_the_frames(
    pictures: Path, tmp_path: Path, stride: int
) -> None:
    (saved,) = with_frames([boxes(tmp_path, NUM_FRAMES)], [str(pictures)])
    config = resolve_settings(TrackConfig(vid_stride=stride), [saved])
    assert config.camera_motion
    video = Segment(Video(str(pictures / "S"), "S", is_image_folder=True))
    chunks = frame_chunks(decode_segment, video, config, ResourceConfig())
    expected = np.concatenate([chunk.camera_motion for chunk in chunks])
    assert not (expected[1:] == np.eye(2, 3)).all()
    assert read(saved, config).tobytes() == expected.tobytes()
    resumed = read(saved, config, 4 * stride)  # as from a checkpoint
    assert resumed.tobytes() == expected[4:].tobytes()


def test_boxes_of_larger_pictures_get_the_motion_in_their_pixels(
    pictures: Path, tmp_path: Path
) -> None:
    (small,) = with_frames([boxes(tmp_path / "a", NUM_FRAMES)], [str(pictures)])
    (large,) = with_frames([boxes(tmp_path / "b", NUM_FRAMES, (640, 384))], [str(pictures)])
    one, other = read(small, TrackConfig()), read(large, TrackConfig())
    np.testing.assert_allclose(other[:, :, 2], 2 * one[:, :, 2])
    np.testing.assert_allclose(other[:, :, :2], one[:, :, :2])


def test_pictures_that_are_too_few_are_the_videos_error(pictures: Path, tmp_path: Path) -> None:
    (saved,) = with_frames([boxes(tmp_path, NUM_FRAMES + 1)], [str(pictures)])
    last = list(saved_chunks(saved, Segment(saved.video), TrackConfig(), 4))[-1]
    assert "frames: got no frame in" in str(last.error)
    assert f"expected frame {NUM_FRAMES}" in str(last.error)


def test_without_frames_the_camera_stands(tmp_path: Path) -> None:
    saved = boxes(tmp_path, 3)
    config = resolve_settings(TrackConfig(), [saved])
    assert not config.camera_motion
    (chunk,) = saved_chunks(saved, Segment(saved.video), config, 4)
    assert chunk.camera_motion is None


def test_a_name_needs_one_video(pictures: Path, tmp_path: Path) -> None:
    saved = boxes(tmp_path / "in", 3)
    other = replace(saved, video=replace(saved.video, name="T"))
    with pytest.raises(RunError, match="got none of T, expected one video of that name") as refused:
        with_frames([other], [str(pictures)])
    assert refused.value.exit_code == ExitCode.REFUSED
    write_images(tmp_path / "again" / "S", 3, rate=10)
    with pytest.raises(RunError, match=r"S and .*S of S, expected one"):
        with_frames([saved], [str(pictures), str(tmp_path / "again")])
