"""THE dataflow: an archive of videos in, one committed Parquet file a video out.

    segments --> decode --> detect --> receipts       a Ray Data pipeline, streaming
                              |
                              +--> association actors --> tracks/<video_id>.parquet

A row of the dataset is a chunk of T frames, or several small ones. The detectors hand their
detections straight to the actor that owns the video, so the dataset carries only receipts past
them. Everything that Ray does may happen twice; a video's object is created once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy

from jde_ray.pipelines.cluster import Interrupted, connected, interruptible
from jde_ray.pipelines.config import OutputConfig, Parts, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.settings import resolve_settings
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.output.run_record import open_out, recorded_precision
from jde_ray.pipelines.output.summary import Summary, put_summary, summarize
from jde_ray.pipelines.output.work import accept, plan_work
from jde_ray.pipelines.report.page import write_report
from jde_ray.pipelines.sources.discovery import Sources, find_videos
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.tracking.attempts import Passes, Progress
from jde_ray.pipelines.tracking.packing import pack, take_share
from jde_ray.pipelines.tracking.pools import Pools, size_pools
from jde_ray.pipelines.tracking.rendering import missing, render_all, write_missing_mot
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.decode import cut_rows, decode_rows, is_cut
from jde_ray.pipelines.tracking.stages.detect import DetectorStage
from jde_ray.pipelines.tracking.stalls import streaming_context

# what a decode task holds: libav's buffers and a few chunks. Asking for memory also keeps Ray Data
# from fusing the stage into the detectors, which it does with stages that ask for the same
_DECODER_BYTES = 256 << 20
_CUTTER_BYTES = 128 << 20

__all__ = ["Progress", "Summary", "build", "track"]


def build(
    segments: Sequence[Segment],
    config: TrackConfig,
    resources: ResourceConfig,
    pools: Pools,
    pass_id: str,
    parts: Parts = Parts(),
) -> Dataset:
    """Wire the stages; nothing runs until the receipts are read.

    Args:
        segments: One a video; the videos are open at the association actors of the pass.
        config: What changes rows.
        resources: Chunk size, threads, device.
        pools: How many workers of each kind.
        pass_id: Of the association actors.
        parts: Which decoder and model.

    Returns:
        One receipt a row of chunks, see `wire.RECEIPT_SCHEMA`.
    """
    context = streaming_context()
    owners = (pass_id, pools.num_shards)
    with DataContext.current(context):
        # 1. one row a video, or a pack of short ones; one block a row, so that each is a task
        packs = pack(segments, resources)
        rows: Dataset = ray.data.from_items(
            [wire_format.segments_to_row(part) for part in packs], override_num_blocks=len(packs)
        )
        if any(is_cut(segment, resources) for segment in segments):
            # one long video -> its parts, which are decoded side by side
            rows = rows.map_batches(
                partial(cut_rows, parts.cut, config, resources),
                batch_size=1,
                batch_format="pyarrow",
                compute=TaskPoolStrategy(pools.num_decoders),
                num_cpus=pools.decoder_cpus,
                memory=_CUTTER_BYTES,
            )
        # 2. segments -> rows of their chunks; tasks, since nothing is kept from video to video
        chunks = rows.map_batches(
            partial(decode_rows, parts.decode, config, resources, *owners),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(pools.num_decoders),
            num_cpus=pools.decoder_cpus,
            memory=_DECODER_BYTES,
        )
        # 3. one row -> one receipt; actors, since the weights are loaded once. Two rows in
        #    flight: the next one is fetched while the model works
        return chunks.map_batches(
            DetectorStage,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=pools.num_detectors, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.detector_cpus,
            num_gpus=pools.detector_gpus,
            fn_constructor_args=(config.detection, resources, parts.model, *owners),
        )


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
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Track people in all videos of `sources`, going on where an earlier run stopped.

    Args:
        sources: A file, folder, glob or list, or several (see `pipelines.sources.discovery`), or
            what `find_videos` made of them.
        out: Folder or `s3://` prefix of the run.
        config: What changes rows; another one into the same `out` is refused.
        resources: Pools, device, Ray's address. Joins the Ray of this process if there is one.
        outputs: What is written beside the tracks.
        parts: Which decoder and model.
        overwrite: Do committed videos again.
        retry_errors: Do failed videos again.
        progress: Called with every receipt.

    Returns:
        What was done; its `exit_code` says how it ended.

    Raises:
        RunError: If the run is refused before any work, or cannot go on.
    """
    started = time.perf_counter()
    configure(resources.s3_endpoint)
    videos, failures = take_share(*find_videos(sources), resources.share)
    config = resolve_settings(config, parts, resources, recorded_precision(out))
    store = open_out(out, config, resources)
    again = {"overwrite": overwrite, "retry_errors": retry_errors}
    work = plan_work(store, videos, failures, **again, share=resources.share)
    if outputs.save_mot:
        write_missing_mot(store, work.skipped)
    passes = Passes(
        store, config, outputs, len(work.skipped), progress, resources, stale=work.stale
    )
    stopped: ExitCode | None = None
    to_render = missing(store, work.skipped) if outputs.save_video else []
    drawn = 0
    if work.todo or to_render:
        with connected(resources.address), interruptible():
            pools = size_pools(resources)
            accept(store, work, resources.share)
            try:
                for pass_id, segments in passes.plan(work.todo):
                    pools = size_pools(resources, before=pools)  # a node may be lost by now
                    receipts = build(segments, config, resources, pools, pass_id, parts)
                    passes.run(pass_id, segments, receipts, pools)
                if outputs.save_video:
                    drawn = render_all(store, videos, config, parts, pools.decoder_cpus, resources)
            except Interrupted as signal:
                stopped = signal.exit_code
    seconds = {"wall": time.perf_counter() - started, **passes.seconds}
    ended = passes.outcomes.values()
    summary = summarize(
        store.uri,
        work,
        ended,
        seconds,
        passes=passes.count,
        frames_seen=passes.frames,
        videos_drawn=drawn,
        overwrite=overwrite,
        interrupted=stopped,
    )
    put_summary(store, summary, resources.share)
    if stopped is None:
        write_report(store, summary)
    return summary
