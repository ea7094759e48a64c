"""A camera that moves: whole, in parts, resumed and from saved detections, the bytes are the same.

Without Ray, with the real decoder and splitter and a network that draws lots.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_videos import pan_frame, write_video

from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import FoundInFrame, in_source_pixels
from jde_ray.pipelines.output.checkpoints import Checkpoint, find_states
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DetectionChunk, Segment, Video
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.decode import cut_rows, frame_chunks
from jde_ray.pipelines.tracking.stages.read import saved_chunks
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession
from jde_ray.pipelines.video.chunks import decode_segment
from jde_ray.pipelines.video.splitting import split_segment

SIZE = (320, 192)
RESOURCES = ResourceConfig(chunk_frames=4, segment_frames=24)
OUTPUTS = OutputConfig(save_detections=True, save_mot=True)


class Lots:
    """Five boxes per frame, whose places follow from its pixels."""

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        pass

    def detect(self, frames: np.ndarray, boxes: Sequence[Letterbox]) -> Sequence[FoundInFrame]:
        return in_source_pixels([self._find(frame) for frame in frames], boxes)

    def _find(self, frame: np.ndarray) -> SimpleNamespace:
        left = 30 * np.arange(5) + 20 + int(frame.sum()) % 7
        tlbr = np.stack([left, left * 0 + 30, left + 25, left * 0 + 100], 1).astype(np.float32)
        looks, scores = np.eye(5, 8, dtype=np.float32), np.full(5, 0.9, np.float32)
        return SimpleNamespace(tlbr=tlbr, scores=scores, embeddings=looks, num_capped=0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("pan") / "pan.mp4"
    return Video(str(write_video(path, 120, size=SIZE, draw=pan_frame, gop=12)), "pan")


def config_of(stride: int) -> TrackConfig:
    detection = DetectionConfig(weights="fake", weights_sha256="f" * 64, size=SIZE)
    return TrackConfig(detection=detection, vid_stride=stride)


def session(video: Video, config: TrackConfig, out: Path, **settings: object) -> VideoSession:
    store, folder = open_store(str(out)), out / f"local-{len(settings)}"
    return VideoSession(video, 0, config, OUTPUTS, store, {}, folder, **settings)  # type: ignore[arg-type]


def detected(segment: Segment, config: TrackConfig) -> list[DetectionChunk]:
    detector = Detector(config.detection, RESOURCES, Lots)
    chunks = frame_chunks(decode_segment, segment, config, RESOURCES)
    rows = (wire_format.frames_to_table([chunk]) for chunk in chunks)
    return [detector.detect(wire_format.frames_from_table(row)[0][0]) for row in rows]


def products(own: VideoSession, chunks: Sequence[DetectionChunk], out: Path) -> dict[str, bytes]:
    for chunk in chunks:
        own.deliver(wire_format.load(wire_format.dump(chunk)))
    assert own.outcome is not None
    assert own.outcome.error is None
    return {
        folder: next((out / folder).iterdir()).read_bytes()
        for folder in ("tracks", "detections", "mot")
    }


@pytest.mark.parametrize("stride", [1, 3])
def test_whole_parts_resumed_and_saved_give_the_same_bytes(
    video: Video, tmp_path: Path, stride: int
) -> None:
    config, whole = config_of(stride), Segment(video)
    chunks = detected(whole, config)
    expected = products(session(video, config, tmp_path / "whole"), chunks, tmp_path / "whole")
    table = pq.ParquetFile(next((tmp_path / "whole/detections").iterdir())).read()
    moves = [one != [1, 0, 0, 0, 1, 0] for one in table["camera_motion"].to_pylist()]
    assert sum(moves) > 0.8 * len(moves)

    row = pa.Table.from_pylist([wire_format.segments_to_row([whole])])
    tables = cut_rows(split_segment, config, RESOURCES, row)
    parts = [part for one in tables for part in wire_format.segments_from_table(one)]
    assert len(parts) > 3
    shuffled = [chunk for part in parts for chunk in detected(part, config)]
    random.Random(3).shuffle(shuffled)
    out = tmp_path / "parts"
    assert products(session(video, config, out), shuffled, out) == expected

    out = tmp_path / "resumed"
    killed = session(video, config, out, checkpoints=Checkpointing("first", 8))
    for chunk in chunks[:5]:
        killed.deliver(chunk)
    store = open_store(str(out))
    state = Checkpoint.load(store.get(find_states(store)[video.video_id][0]))
    successor = session(video, config, out, checkpoints=Checkpointing("second", 8), window=4)
    successor.restore(state)
    rest = detected(replace(whole, start_frame=state.next_frame), config)
    assert products(successor, rest, out) == expected

    (saved,) = find_saved([str(tmp_path / "whole")])
    again = list(saved_chunks(saved, Segment(saved.video), config, 5))
    out = tmp_path / "saved"
    replayed = products(session(saved.video, config, out), again, out)
    assert replayed["mot"] == expected["mot"]
