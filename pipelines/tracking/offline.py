"""THE dataflow: an archive of videos in, one committed Parquet file per video out.

    segments --> decode --> detect --> receipts       a Ray Data pipeline, streaming
                              |
                              +--> association shards --> tracks/<video_id>.parquet

A row of the dataset is a chunk of T frames, or several small ones. The detectors deliver their
detections directly to the video's association shard, an actor, so the dataset carries only receipts
after them. Ray may execute anything twice; a video's object is created once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import ray
from ray.data import DataContext, Dataset, TaskPoolStrategy

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.discovery import Sources
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.input_sizes import with_sizes
from jde_ray.pipelines.tracking.packing import pack
from jde_ray.pipelines.tracking.run import Attempt, open_run
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.decode import cut_rows, decode_rows, is_cut
from jde_ray.pipelines.tracking.stages.detect import DetectorStage
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient
from jde_ray.pipelines.tracking.streaming import streaming_context
from jde_ray.pipelines.tracking.tally import Progress

# memory of a decode task: libav's buffers and a few chunks. Requesting memory also keeps Ray Data
# from fusing the stage into the detectors, as it does with stages of equal resources
_DECODER_BYTES = 256 << 20
_CUTTER_BYTES = 128 << 20

__all__ = ["Progress", "Summary", "build", "track"]


def build(
    attempt: Attempt,
    config: TrackConfig,
    resources: ResourceConfig,
    components: Components = Components(),
) -> Dataset:
    """Wire the stages; nothing runs until the receipts are read.

    Args:
        attempt: Segments, one per video, pools, and the id of the association shards.
        config: Settings that affect rows.
        resources: Frames per chunk, threads, device.
        components: Functions that decode, split and detect.

    Returns:
        One receipt per row of chunks, see `wire_format.RECEIPT_SCHEMA`.
    """
    pools = attempt.pools
    shards = ShardClient(attempt.attempt_id, pools.num_shards)
    with DataContext.current(streaming_context()):
        # 1. one row per video or pack of short videos; one block per row, so that each is a task
        packs = pack(attempt.segments, resources, pools.num_decoders)
        rows: Dataset = ray.data.from_items(
            [wire_format.segments_to_row(part) for part in packs], override_num_blocks=len(packs)
        )
        if any(is_cut(segment, resources) for segment in attempt.segments):
            # one long video -> its segments, which are decoded in parallel
            rows = rows.map_batches(
                partial(cut_rows, components.split, config, resources),
                batch_size=1,
                batch_format="pyarrow",
                compute=TaskPoolStrategy(pools.num_decoders),
                num_cpus=pools.decoder_cpus,
                memory=_CUTTER_BYTES,
            )
        # 2. segments -> rows of their chunks; tasks, since no state is kept between videos
        chunks = rows.map_batches(
            partial(decode_rows, components.decode, config, resources, shards),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(pools.num_decoders),
            num_cpus=pools.decoder_cpus,
            memory=_DECODER_BYTES,
        )
        # 3. one row -> one receipt
        return chunks.map_batches(
            DetectorStage,
            fn_constructor_args=(config.detection, resources, components.build_model, shards),
            **pools.detectors(graphs=resources.graphs),
        )


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
    """Track people in all videos of `sources`, continuing where an earlier run stopped.

    Args:
        sources: A file, folder, glob or list, or several (see `pipelines.sources.discovery`), or
            the result of `find_videos`.
        out: Folder or `s3://` prefix of the run.
        config: Settings that affect rows; an `out` with other settings is refused.
        resources: Pools, device, Ray's address. Joins the Ray of this process if there is one.
        outputs: Files to write in addition to the tracks.
        components: Functions that decode, split and detect.
        overwrite: Track committed videos again.
        retry_errors: Track failed videos again.
        progress: Called with every receipt.

    Returns:
        Counts, errors and times of the run; `exit_code` says how it ended.

    Raises:
        RunError: If the run is refused before any work, or cannot continue.
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
    config = run.config
    if run.needs_ray:
        with run.on_ray(resources) as attempts:
            for attempt in attempts:
                sized = attempt
                if config.detection.auto_size:
                    how = (run.store, config, resources, components, attempt.pools)
                    sized = replace(attempt, segments=with_sizes(attempt.segments, *how))
                run.execute(sized, build(sized, config, resources, components))
            run.draw(components.read_frames)
    return run.finish()
