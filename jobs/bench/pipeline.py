"""`jde bench pipeline`: the stages of the dataflow and the whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, Weights, console, processor

if TYPE_CHECKING:
    from jde_ray.pipelines.config import ResourceConfig, TrackConfig
    from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, Video
    from jde_ray.pipelines.tracking.components import Components
    from jde_ray.pipelines.tracking.pools import Pools
    from jde_ray.pipelines.tracking.stages.decode import Decoder

_CHUNKS_KEPT = 24  # chunks of frames that are fed to the detection stage in a loop


def pipeline(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help=r"Videos to process. \[default: stand-ins for all stages]"
        ),
    ] = None,
    weights: Weights = "small",
    max_frames: Annotated[int, typer.Option(min=32, help="Frames per video.")] = 400,
    num_detectors: Annotated[int | None, typer.Option(min=1, help="Number of detectors.")] = None,
    as_json: AsJson = False,
) -> None:
    """Frames/s of each stage alone and of the whole dataflow, and how they compare."""
    from jde_ray.pipelines.cluster import connected
    from jde_ray.pipelines.config import ResourceConfig
    from jde_ray.pipelines.tracking.pools import size_pools

    resources = ResourceConfig(num_detectors=num_detectors)
    folder = Path(tempfile.mkdtemp(prefix="jde-bench-"))
    try:
        config, components, named = _what(sources, weights, max_frames, folder)
        with connected("local"):
            bench = _Bench(config, resources, components, size_pools(resources), folder)
            report = bench.run(named)
    finally:
        shutil.rmtree(folder)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = Table(
        title=f"Stages of the dataflow, {report['cpu']}, {report['cores']} cores",
        caption="Each stage runs alone. limit of the cores: all stages at once on these cores, by "
        "the processor time that each took alone.",
    )
    for name in ("stage", "workers", "frames/s", "core ms/frame"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in report["stages"]:
        figures = (f"{row['frames_per_second']:.1f}", f"{row['core_ms_per_frame']:.2f}")
        table.add_row(row["stage"], str(row["workers"]), *figures)
    table.add_row("whole", "", f"{report['whole_frames_per_second']:.1f}", "")
    console().print(table)
    typer.echo(
        f"slowest stage: {report['slowest']}; the whole reaches {report['share_of_slowest']:.2f} of"
        f" its speed, and {report['share_of_cores']:.2f} of what the cores allow"
    )


def _what(
    sources: list[str] | None, weights: str, max_frames: int, folder: Path
) -> tuple[TrackConfig, Components, list[str]]:
    from dataclasses import replace

    from jde_ray.jobs.bench import stand_ins
    from jde_ray.pipelines.config import TrackConfig
    from jde_ray.pipelines.tracking.components import Components

    if not sources:
        videos = stand_ins.write_videos(folder / "in", 8, 4 * max_frames)  # rows of many frames
        return stand_ins.config(), stand_ins.COMPONENTS, [str(videos)]
    from jde_ray.models.jde.weights import load

    config = TrackConfig(max_frames=max_frames)
    size = load(weights, None).config.size
    detection = replace(config.detection, weights=weights, size=size)
    return replace(config, detection=detection), Components(), list(sources)


class _Bench:
    """Measures the stages of a run on a connected Ray."""

    def __init__(
        self,
        config: TrackConfig,
        resources: ResourceConfig,
        components: Components,
        pools: Pools,
        folder: Path,
    ) -> None:
        from jde_ray.pipelines.detection.settings import resolve_settings

        self._config = resolve_settings(config, components.build_model, resources)
        self._resources, self._components = resources, components
        self._pools, self._folder = pools, folder
        self._cores = len(os.sched_getaffinity(0))

    def run(self, sources: list[str]) -> dict[str, Any]:
        from jde_ray.pipelines.sources.discovery import find_videos

        videos, _ = find_videos(sources)
        chunks: list[FrameChunk] = []
        rows = [self._decode(videos), self._detect(videos, chunks)]
        rows.append(self._associate(chunks))
        whole = self._whole(sources)
        slowest = min(rows, key=lambda row: row["frames_per_second"])
        limit = 1000 * self._cores / sum(row["core_ms_per_frame"] for row in rows)
        return {
            "cpu": processor(),
            "cores": self._cores,
            "stages": rows,
            "slowest": slowest["stage"],
            "whole_frames_per_second": whole,
            "share_of_slowest": whole / slowest["frames_per_second"],
            "cores_limit_frames_per_second": limit,
            "share_of_cores": whole / min(limit, slowest["frames_per_second"]),
        }

    def _decode(self, videos: Sequence[Video]) -> dict[str, Any]:
        """Decode whole videos in tasks that return only the number of frames."""
        import ray

        task: Any = ray.remote(_count_frames)
        decoders = max(1, self._cores)
        arguments = (self._components.decode, self._config, self._resources)

        def once() -> int:
            waiting = [task.remote(*arguments, [video]) for video in videos]
            return sum(ray.get(waiting))

        return _row("decode", min(decoders, len(videos)), once, self._cores)

    def _detect(self, videos: Sequence[Video], chunks: list[FrameChunk]) -> dict[str, Any]:
        """Feed the detectors of a run from the object store with the first chunks."""
        import ray

        from jde_ray.pipelines.detection.detector import Detector
        from jde_ray.pipelines.structures import Segment
        from jde_ray.pipelines.tracking.stages.decode import frame_chunks

        for video in videos:
            arguments = (self._components.decode, Segment(video), self._config, self._resources)
            for chunk in frame_chunks(*arguments):
                if len(chunks) < _CHUNKS_KEPT and chunk.error is None:
                    chunks.append(chunk)
        actor: Any = ray.remote(Detector).options(
            num_cpus=self._pools.detector_cpus, num_gpus=self._pools.detector_gpus
        )
        detectors = [
            actor.remote(self._config.detection, self._resources, self._components.build_model)
            for _ in range(self._pools.num_detectors)
        ]
        kept = [ray.put(chunk) for chunk in chunks]
        ray.get([detector.detect.remote(kept[0]) for detector in detectors])  # loaded and warm

        def once() -> int:
            pool: Any = ray.util.ActorPool(detectors)
            found = pool.map_unordered(lambda detector, chunk: detector.detect.remote(chunk), kept)
            return sum(len(chunk.frame_index) for chunk in found)

        row = _row("detect", len(detectors), once, self._cores)
        for detector in detectors:
            ray.kill(detector)
        return row

    def _associate(self, chunks: Sequence[FrameChunk]) -> dict[str, Any]:
        """Feed the association shards the detections of a few chunks in a loop, in order."""
        import ray

        from jde_ray.pipelines.config import OutputConfig
        from jde_ray.pipelines.detection.detector import Detector
        from jde_ray.pipelines.structures import Segment, Video
        from jde_ray.pipelines.tracking.stages.shard_client import shard_of
        from jde_ray.pipelines.tracking.stages.start_shards import start_shards

        detector = Detector(self._config.detection, self._resources, self._components.build_model)
        found = [detector.detect(chunk) for chunk in chunks[:8]]
        count = self._pools.num_shards
        made = [Video(f"/bench/{index}.mp4", f"{index}") for index in range(4 * count)]
        out = str(self._folder / "associate")
        shards = start_shards(
            "bench", [Segment(v) for v in made], count, out, self._config, OutputConfig(), {}
        )
        ray.get([shard.stats.remote() for shard in shards])
        turn = 0

        def once() -> int:
            nonlocal turn
            waiting = []
            for video in made:
                shard = shards[shard_of(video.video_id, count)]
                row = [_moved(found[i % len(found)], video, turn + i) for i in range(16)]
                waiting.append((shard.deliver_all.remote(row), row))
            turn += 16
            ray.get([answer for answer, _ in waiting])
            return sum(len(chunk["frame_index"]) for _, row in waiting for chunk in row)

        row = _row("associate", count, once, self._cores)
        for shard in shards:
            ray.kill(shard)
        return row

    def _whole(self, sources: list[str]) -> float:
        """Frames per second between the first receipt and the last."""
        from jde_ray.pipelines.tracking import offline

        seen: list[tuple[float, int]] = []
        offline.track(
            sources,
            str(self._folder / "whole"),
            self._config,
            resources=self._resources,
            components=self._components,
            progress=lambda progress: seen.append((time.perf_counter(), progress.frames)),
        )
        (begin, first), (end, last) = seen[0], seen[-1]
        return (last - first) / max(end - begin, 1e-9)


def _row(stage: str, workers: int, once: Callable[[], int], cores: int) -> dict[str, Any]:
    """Time the best of three runs; the first also starts the workers."""
    best, frames = float("inf"), 0
    for _ in range(3):
        started = time.perf_counter()
        frames = once()
        best = min(best, time.perf_counter() - started)
    rate = frames / best
    busy = min(workers, cores)
    return {
        "stage": stage,
        "workers": workers,
        "frames_per_second": rate,
        "core_ms_per_frame": 1000 * busy / rate,
    }


def _count_frames(
    decode: Decoder, config: TrackConfig, resources: ResourceConfig, videos: list[Video]
) -> int:
    from jde_ray.pipelines.structures import Segment
    from jde_ray.pipelines.tracking.stages.decode import frame_chunks

    return sum(
        len(chunk.frame_index)
        for video in videos
        for chunk in frame_chunks(decode, Segment(video), config, resources)
    )


def _moved(chunk: DetectionChunk, video: Video, index: int) -> dict[str, Any]:
    """The same chunk as chunk `index` of another video."""
    from dataclasses import replace

    from jde_ray.pipelines.tracking.stages import wire_format

    length = len(chunk.frame_index)
    frames = chunk.frame_index - chunk.frame_index[0] + index * length
    times = frames / max(chunk.info.frames_per_second, 1.0)
    return wire_format.pack(
        replace(
            chunk,
            video_id=video.video_id,
            attempt=0,
            chunk_index=index,
            frame_index=frames,
            time_s=times,
            is_last=False,
        )
    )
