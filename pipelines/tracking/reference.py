"""The same result in one process without Ray: the oracle of the dataflow, and for small runs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from jde_ray.pipelines.config import OutputConfig, Parts, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.settings import resolve_settings
from jde_ray.pipelines.output.run_record import file_metadata, open_out, recorded_precision
from jde_ray.pipelines.output.summary import Summary, put_summary, summarize
from jde_ray.pipelines.output.work import accept, plan_work
from jde_ray.pipelines.report.page import write_report
from jde_ray.pipelines.sources.discovery import Sources, find_videos
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.structures import Segment, VideoOutcome
from jde_ray.pipelines.tracking.packing import take_share
from jde_ray.pipelines.tracking.rendering import missing, render, write_missing_mot
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.stages.session import VideoSession


def track(
    sources: Sources,
    out: str,
    config: TrackConfig,
    *,
    resources: ResourceConfig = ResourceConfig(),
    outputs: OutputConfig = OutputConfig(),
    parts: Parts = Parts(),
    overwrite: bool = False,
    retry_errors: bool = False,
) -> Summary:
    """One video after the other, one chunk after the other; arguments as `offline.track`.

    Raises:
        RunError: If the run is refused.
    """
    started = time.perf_counter()
    configure(resources.s3_endpoint)
    videos, failures = take_share(*find_videos(sources), resources.share)
    config = resolve_settings(config, parts, resources, recorded_precision(out))
    store = open_out(out, config, resources)
    again = {"overwrite": overwrite, "retry_errors": retry_errors}
    work = plan_work(store, videos, failures, **again, share=resources.share)
    seconds = {"decode": 0.0, "detect": 0.0}
    outcomes: list[VideoOutcome] = []
    detector = Detector(config.detection, resources, parts.model) if work.todo else None
    accept(store, work, resources.share)
    with tempfile.TemporaryDirectory(prefix="jde-reference-") as folder:
        for video in work.todo:
            session = VideoSession(
                video,
                0,
                config,
                outputs,
                store,
                file_metadata(config),
                Path(folder) / video.video_id,
                replaces=video.video_id in work.stale,
            )
            since = time.perf_counter()
            for chunk in frame_chunks(parts.decode, Segment(video), config, resources):
                decoded = time.perf_counter()
                assert detector is not None  # noqa: S101 - there is work
                found = detector.detect(chunk)
                seconds["decode"] += decoded - since
                seconds["detect"] += time.perf_counter() - decoded
                session.deliver(found)
                if session.outcome is not None:
                    outcomes.append(session.outcome)
                    break
                since = time.perf_counter()
    if outputs.save_mot:
        write_missing_mot(store, work.skipped)
    to_render = missing(store, videos) if outputs.save_video else []
    for video in to_render:
        render(store.uri, video, config, parts)
    seconds["wall"] = time.perf_counter() - started
    summary = summarize(
        store.uri, work, outcomes, seconds, videos_drawn=len(to_render), overwrite=overwrite
    )
    write_report(store, summary)
    put_summary(store, summary, resources.share)
    return summary
