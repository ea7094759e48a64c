"""Pictures of the best few sightings of each track, cut from the source's frames."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.best_sightings import best_sightings
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.formats.crops import Crop, encode_crops, facts_of_crops
from jde_ray.pipelines.output.layout import crop_index_key, crop_key
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.frame import Image

MARGIN = 0.1  # of the box's own sides, around it
_QUALITY = 92
_WRITERS = 8  # threads, since each small object of a store is a request
_WAITING = 32  # pictures in memory


def write_crops(
    store: ObjectStore,
    video: Video,
    tracks: Trajectories,
    size: tuple[int, int],
    frames: Iterable[tuple[int, float, Image]],
    outputs: OutputConfig,
) -> int:
    """Put the pictures of a video's tracks into the store, and last the table of them.

    Memory holds one frame, `_WAITING` pictures, and a row per picture. A call that was killed is
    repeated with the same pictures, which then have the same bytes.

    Args:
        store: OUT.
        video: The video.
        tracks: Its tracks.
        size: Width and height of its frames in pixels.
        frames: Number, time in seconds and `(H, W, 3)` RGB of its frames, blurred if need be.
        outputs: Pictures per track, and what was blurred.

    Returns:
        Number of pictures.
    """
    rows = best_sightings(tracks, size, outputs.crops_per_track)
    rank = _ranks(tracks.track_id[rows])
    order = np.argsort(tracks.frame[rows], kind="stable")
    rows, rank = rows[order], rank[order]
    numbers = tracks.frame[rows]
    crops: list[Crop] = []
    with ThreadPoolExecutor(_WRITERS) as writers:
        upload = _Upload(store, writers)
        for frame, time_s, image in frames:
            first, end = np.searchsorted(numbers, [frame, frame + 1])
            for row, own in zip(rows[first:end].tolist(), rank[first:end].tolist(), strict=True):
                track_id, tlbr = int(tracks.track_id[row]), tracks.tlbr[row]
                cut = cut_of(tlbr, image)
                key = crop_key(video.video_id, track_id, frame)
                upload(key, encode_picture(image[cut[1] : cut[3], cut[0] : cut[2]]))
                crops.append(
                    Crop(
                        track_id=track_id,
                        rank=own,
                        frame=frame,
                        time_s=time_s,
                        tlbr=tlbr,
                        score=float(tracks.score[row]),
                        cut=cut,
                        file=key,
                    )
                )
            if end == len(rows):
                break  # no later frame is needed
        upload.finish()
    facts = facts_of_crops(video, outputs.blur, outputs.crops_per_track)
    with tempfile.TemporaryDirectory(prefix="jde-crops-") as folder:
        table = encode_crops(video, crops, facts, Path(folder))
        store.put(crop_index_key(video.video_id), table)
    return len(crops)


def cut_of(tlbr: FloatArray, image: Image) -> tuple[int, int, int, int]:
    """The box with its margin, as left, top, right and bottom within the image; never empty.

    Args:
        tlbr: `(4,)` corners in pixels; some of the box lies in the image.
        image: `(H, W, 3)`.
    """
    room = np.tile((tlbr[2:] - tlbr[:2]) * MARGIN, 2) * (-1, -1, 1, 1)
    corners = np.concatenate([np.floor(tlbr + room)[:2], np.ceil(tlbr + room)[2:]])
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(corners, 0, (width, height, width, height)).astype(int).tolist()
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def encode_picture(image: Image) -> bytes:
    """JPEG of an RGB image; the same bytes for the same pixels."""
    options = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
    return cv2.imencode(".jpg", image[:, :, ::-1], options)[1].tobytes()


def _ranks(track_id: IntArray) -> IntArray:
    """Place of each row among the successive rows of its track, from 1."""
    first = np.flatnonzero(np.append(True, np.diff(track_id) != 0)[: len(track_id)])
    length = np.diff(np.append(first, len(track_id)))
    ranks: IntArray = np.arange(len(track_id)) - np.repeat(first, length) + 1
    return ranks


class _Upload:
    """Puts objects in the background, as many at once as may wait in memory."""

    def __init__(self, store: ObjectStore, writers: ThreadPoolExecutor) -> None:
        self._store, self._writers = store, writers
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, key: str, body: bytes) -> None:
        """Put one more; raise the error of an earlier one."""
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._writers.submit(self._store.put, key, body))

    def finish(self) -> None:
        """Wait for all."""
        while self._waiting:
            self._waiting.popleft().result()
