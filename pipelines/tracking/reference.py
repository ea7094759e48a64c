"""The run in one process without Ray: the oracle of the dataflow, and the way of small work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.run_record import file_metadata
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.discovery import Sources
from jde_ray.pipelines.structures import FrameChunk, Segment
from jde_ray.pipelines.tracking.ahead import made_ahead
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.input_sizes import Chooser, tell
from jde_ray.pipelines.tracking.later_outputs import render_here
from jde_ray.pipelines.tracking.run import Run, open_run
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.stages.session import VideoSession
from jde_ray.pipelines.tracking.tally import Progress


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
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Track one video after the other, one chunk after the other, decoded while the last is used.

    The arguments are those of `offline.track`.

    Raises:
        RunError: If the run is refused, or rows cannot be written.
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
        progress=progress,
    )
    drawing = (run.config, outputs, components.read_frames, resources.s3_endpoint)
    with run.in_process():
        if run.work.todo:
            detector = Detector(run.config.detection, resources, components.build_model)
            with tempfile.TemporaryDirectory(prefix="jde-") as folder:
                choose = Chooser(run.store, run.config, components, detector)
                for video in run.work.todo:
                    segment = Segment(video, keep_partial=outputs.keep_partial)
                    if run.config.detection.auto_size:
                        segment = _with_size(segment, choose)
                    _track_video(segment, run, detector, resources, outputs, components, folder)
        run.pictures = render_here(run.store, run.videos, *drawing)
    return run.finish()


def _with_size(segment: Segment, choose: Chooser) -> Segment:
    try:
        segment = replace(segment, chosen=choose(segment.video))
    except OSError as error:
        reason = f"cannot write to {choose.store.uri}: {error}"
        raise RunError(reason, ExitCode.INTERNAL) from error
    tell(segment)
    return segment


def _track_video(
    segment: Segment,
    run: Run,
    detector: Detector,
    resources: ResourceConfig,
    outputs: OutputConfig,
    components: Components,
    folder: str,
) -> None:
    video = segment.video
    session = VideoSession(
        video,
        0,
        run.config,
        outputs,
        run.store,
        file_metadata(run.config),
        Path(folder) / video.video_id,
        replaces=video.video_id in run.work.stale,
        chosen=segment.chosen,
    )
    chunks = frame_chunks(components.decode, segment, run.config, resources)
    with closing(made_ahead(chunks)) as made:
        for chunk, decode_s in made:
            since = time.perf_counter()
            detections = detector.detect(chunk)
            seconds = {"decode_s": decode_s, "detect_s": time.perf_counter() - since}
            try:
                session.deliver(detections)
            except OSError as error:
                reason = f"cannot write to {run.store.uri}: {error}"
                raise RunError(reason, ExitCode.INTERNAL) from error
            has_ended = session.outcome is not None
            run.tally.add(_receipt(chunk, has_ended=has_ended) | seconds)
            if session.outcome is not None:
                run.attempts.outcomes[video.video_id] = session.outcome
                return


def _receipt(chunk: FrameChunk, *, has_ended: bool) -> dict[str, object]:
    promised = [(chunk.video_id, chunk.info.num_frames)] if chunk.info.num_frames else []
    return {
        "num_frames": len(chunk.frame_index),
        "arrived": [chunk.video_id] if has_ended else [],
        "promised": promised,
    }
