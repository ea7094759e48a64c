"""`--size auto` in a run: the input size of each video, chosen once before its frames are sent.

The choice is kept in OUT, so that a video that is continued, in another call or on another machine,
keeps its size. It depends on the video, the weights and their precision only.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.auto_size import (
    EVERY_S,
    LEAST_SCORE,
    NUM_FRAMES,
    candidates,
    choose,
)
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.output.layout import input_size_key
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import ChosenSize, FrameChunk, Segment, Video
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.pools import Pools
from jde_ray.pipelines.tracking.stages.decode import frame_chunks

logger = logging.getLogger(__name__)

_TRIES = 2  # of a video whose worker dies while its size is chosen


@dataclass(frozen=True)
class Chooser:
    """Chooses sizes with a loaded network.

    Attributes:
        store: OUT, which keeps the choices.
        config: Settings of the run.
        components: Functions that decode.
        detector: The network.
    """

    store: ObjectStore
    config: TrackConfig
    components: Components
    detector: Detector

    def __call__(self, video: Video) -> ChosenSize | None:
        """The size of a video; None if none of its frames can be read.

        Raises:
            OSError: If the store does not answer.
        """
        known = self._known(video)
        if known is not None:
            return known
        chosen = self._look(video)
        if chosen is None:
            return None
        content = {**asdict(chosen), "version": video.source_version}
        body = f"{json.dumps(content)}\n".encode()
        key = input_size_key(video.video_id)
        if not self.store.put_if_absent(key, body):
            known = self._known(video)  # of another run, which was quicker
            if known is not None:
                return known
            self.store.put(key, body)  # of an earlier version of the video's file
        return chosen

    def _known(self, video: Video) -> ChosenSize | None:
        """The choice in OUT; None if there is none of this version of the video's file."""
        try:
            content = json.loads(self.store.get(input_size_key(video.video_id)))
            if content["version"] != video.source_version:
                return None
            width, height = content["size"]
            return ChosenSize((int(width), int(height)), str(content["why"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s)", input_size_key(video.video_id), error)
            return None

    def _look(self, video: Video) -> ChosenSize | None:
        """Find people in the first frames, in the largest of the possible sizes."""
        first = next(self._frames(video, None, stride=1, number=1), None)
        if first is None:
            return None
        detection, source = self.config.detection, (first.info.width, first.info.height)
        options = candidates(source, detection.size, rect=detection.rect)
        if len(options) == 1:
            return choose(options, np.zeros(0))
        largest = ChosenSize(options[-1][1], "to look for people")
        stride = max(1, round(EVERY_S * first.info.frames_per_second))
        heights: list[FloatArray] = [np.zeros(0)]
        for chunk in self._frames(video, largest, stride=stride, number=NUM_FRAMES):
            found = self.detector.detect(chunk)
            if found.error is not None:
                break  # the run meets it again, and says so
            ratio = _ratio(source, options[0][1])
            for one in found.detections:
                tlbr = one.tlbr[one.scores >= LEAST_SCORE].astype(np.float64)
                heights.append((tlbr[:, 3] - tlbr[:, 1]) * ratio)
        return choose(options, np.concatenate(heights))

    def _frames(
        self, video: Video, size: ChosenSize | None, *, stride: int, number: int
    ) -> Iterator[FrameChunk]:
        """Chunks with frames, up to damage."""
        segment = Segment(video, keep_partial=True, chosen=size)
        config = replace(self.config, vid_stride=stride, max_frames=number, camera_motion=False)
        # the same batch in every run, since sums depend on it
        resources = ResourceConfig(chunk_frames=number)
        for chunk in frame_chunks(self.components.decode, segment, config, resources):
            if len(chunk.frame_index):
                yield chunk


def _ratio(source: tuple[int, int], size: tuple[int, int]) -> float:
    return min(size[0] / source[0], size[1] / source[1])


def with_sizes(
    segments: Sequence[Segment],
    store: ObjectStore,
    config: TrackConfig,
    resources: ResourceConfig,
    components: Components,
    pools: Pools,
) -> list[Segment]:
    """The segments of an attempt with the sizes of their videos, chosen by actors of Ray.

    A video whose worker dies here has no choice: the dataflow finds out which one kills its worker.

    Raises:
        RunError: If a choice fails for another reason.
    """
    import ray

    videos = [segment.video for segment in segments]
    arguments = (store.uri, config, resources, components)
    remote: Any = ray.remote(_ChooserActor).options(
        num_cpus=pools.detector_cpus, num_gpus=pools.detector_gpus, max_restarts=0
    )
    chosen = _ask(videos, lambda: remote.remote(*arguments), min(pools.num_detectors, len(videos)))
    found = [replace(one, chosen=chosen.get(one.video.video_id)) for one in segments]
    for segment in found:
        tell(segment)
    return found


def _ask(
    videos: Sequence[Video], start: Callable[[], Any], number: int
) -> dict[str, ChosenSize | None]:
    """Ask actors for the sizes of all videos; each has one at a time, so that a death has a cause.

    Args:
        videos: The videos.
        start: Starts an actor.
        number: Actors at work at once.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    from jde_ray.pipelines.tracking.failures import to_run_error

    todo = deque((video, _TRIES) for video in videos)
    idle: list[Any] = [start() for _ in range(number)]
    asked: dict[Any, tuple[Any, Video, int]] = {}  # by the call
    chosen: dict[str, ChosenSize | None] = {}
    try:
        while todo or asked:
            while todo and idle:
                actor, (video, tries) = idle.pop(), todo.popleft()
                asked[actor.choose.remote(video)] = actor, video, tries
            ((call, *_), _) = ray.wait(list(asked))
            actor, video, tries = asked.pop(call)
            try:
                chosen[video.video_id] = ray.get(call)
                idle.append(actor)
            except RayTaskError as error:
                raise to_run_error(error) from error
            except RayError:
                idle.append(start())
                if tries > 1:
                    todo.append((video, tries - 1))
                else:
                    logger.warning("%s: no size was chosen, its worker died", video.uri)
    finally:
        for actor in [*idle, *(actor for actor, _, _ in asked.values())]:
            ray.kill(actor)
    return chosen


def tell(segment: Segment) -> None:
    """Say which size was chosen for a video, and why."""
    if segment.chosen is not None:
        logger.info("%s: input %s: %s", segment.video.uri, segment.chosen, segment.chosen.why)


class _ChooserActor:
    """A `Chooser` as an actor."""

    def __init__(
        self, out: str, config: TrackConfig, resources: ResourceConfig, components: Components
    ) -> None:
        configure(resources.s3_endpoint)
        detector = Detector(config.detection, resources, components.build_model)
        self._choose = Chooser(open_store(out), config, components, detector)

    def choose(self, video: Video) -> ChosenSize | None:
        return self._choose(video)
