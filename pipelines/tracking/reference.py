"""The run in one process without Ray: the oracle of the dataflow, and enough for small runs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.output.run_record import file_metadata
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.discovery import Sources
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.later_outputs import render_here
from jde_ray.pipelines.tracking.run import open_run
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.stages.session import VideoSession


def track(
    sources: Sources,
    out: str,
    config: TrackConfig,
    *,
    resources: ResourceConfig = ResourceConfig(),
    outputs: OutputConfig = OutputConfig(),
    components: Components = Components(),
    overwrite: bool = False,
    retry_errors: bool = False,
) -> Summary:
    """Track one video after the other, one chunk after the other.

    The arguments are those of `offline.track`.

    Raises:
        RunError: If the run is refused.
    """
    run = open_run(
        sources,
        out,
        config,
        resources,
        outputs,
        components,
        overwrite=overwrite,
        retry_errors=retry_errors,
    )
    config = run.config
    attempts = run.attempts
    attempts.count = 1
    detector = (
        Detector(config.detection, resources, components.build_model) if run.work.todo else None
    )
    run.begin()
    with tempfile.TemporaryDirectory(prefix="jde-reference-") as folder:
        for video in run.work.todo:
            assert detector is not None  # noqa: S101 - there is work
            session = VideoSession(
                video,
                0,
                config,
                outputs,
                run.store,
                file_metadata(config),
                Path(folder) / video.video_id,
                replaces=video.video_id in run.work.stale,
            )
            since = time.perf_counter()
            segment = Segment(video, keep_partial=outputs.keep_partial)
            for chunk in frame_chunks(components.decode, segment, config, resources):
                decoded = time.perf_counter()
                detections = detector.detect(chunk)
                attempts.seconds["decode"] += decoded - since
                attempts.seconds["detect"] += time.perf_counter() - decoded
                session.deliver(detections)
                if session.outcome is not None:
                    attempts.outcomes[video.video_id] = session.outcome
                    break
                since = time.perf_counter()
    drawing = (config, outputs, components.read_frames, resources.s3_endpoint)
    run.pictures = render_here(run.store, run.videos, *drawing)
    return run.finish()
