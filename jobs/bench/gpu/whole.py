"""The whole system on a GPU: frames in memory through the detector, association in processes.

Ray and PyAV need not be there, so nothing is decoded: chunks of rendered frames are taken again and
again. Two threads ask one `Detector`, as a detector actor does, and send what it finds to processes
that own the videos: reorder, associate, write Parquet.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from queue import Empty
from threading import Lock, Thread
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.jobs.bench.gpu.settings import Bench, build, random_network, threshold

if TYPE_CHECKING:
    from jde_ray.pipelines.config import DetectionConfig, TrackConfig
    from jde_ray.pipelines.structures import FrameChunk

WIDTH, HEIGHT = 640, 360  # of the demo's videos
_THREADS = 2
_PATIENCE_S = 60.0  # for a process of the association to answer or to take a chunk


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: Network configuration.
        chunk_frames: Frames per chunk.
        graphs: Whether the detector has the runner in front of it, as with `jde track --graphs`.
    """

    name: str
    chunk_frames: int
    graphs: bool


CASES = (
    Case("darknet53-1088x608", 16, graphs=True),
    Case("darknet53-1088x608", 32, graphs=True),
    Case("darknet53-1088x608", 16, graphs=False),
    Case("small", 32, graphs=True),
    Case("small", 32, graphs=False),
)
ON_A_CPU = (Case("small", 2, graphs=False),)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row for the published network and one for the shipped one."""
    seconds = 5.0 if bench.is_gpu else 0.5
    with tempfile.TemporaryDirectory(prefix="jde-bench-") as folder:
        for number, case in enumerate(CASES if bench.is_gpu else ON_A_CPU):
            started = perf_counter()
            try:
                yield _Whole(bench, case, Path(folder) / str(number)).run(seconds)
            except Exception as error:  # noqa: BLE001  the other rows are worth having
                failed = f"{type(error).__name__}: {error}"[:500]
                took = perf_counter() - started
                yield vars(case) | {"failed": f"{failed} (after {took:.0f} s)"}


class _Whole:
    def __init__(self, bench: Bench, case: Case, folder: Path) -> None:
        from jde_ray.pipelines.config import ResourceConfig, TrackConfig
        from jde_ray.pipelines.detection.detector import Detector

        folder.mkdir()
        self._bench, self._case, self._folder = bench, case, folder
        self._name, self._chunk_frames = case.name, case.chunk_frames
        self._num_workers, self._num_videos = (8, 32) if bench.is_gpu else (1, 2)
        height, width = bench.size(case.name)
        self._pictures = rendered(case.chunk_frames, width, height)
        detection = _detection(bench, case.name, self._pictures, folder)
        self._config = TrackConfig(detection=detection)
        resources = ResourceConfig(
            device=bench.device,  # type: ignore[arg-type]
            chunk_frames=case.chunk_frames,
            graphs=case.graphs,
        )
        self._detector = Detector(self._config.detection, resources)

    def run(self, seconds: float) -> dict[str, Any]:
        """The row: frames per second from the first chunk to the last committed video."""
        self._detector.detect(_chunk("warm", 0, self._pictures, is_last=True))
        context = multiprocessing.get_context("spawn")
        results: Any = context.Queue()
        queues: list[Any] = [context.Queue(maxsize=16) for _ in range(self._num_workers)]
        workers = [
            context.Process(
                target=associate,
                args=(queue, results, self._config, str(self._folder / f"{self._name}-{number}")),
                daemon=True,
            )
            for number, queue in enumerate(queues)
        ]
        try:
            for worker in workers:
                worker.start()
            _answers(results, workers)  # started
            started, before = perf_counter(), process_time()
            self._send(queues, started + seconds)
            detected = perf_counter() - started
            for queue in queues:
                queue.put(None, timeout=_PATIENCE_S)
            ended = _answers(results, workers)
            wall = perf_counter() - started
        finally:
            for worker in workers:
                worker.join(timeout=1)
                worker.kill()
        frames = sum(end["frames"] for end in ended)
        busy = frames / self._chunk_frames * self._device_seconds() / wall
        return {
            **vars(self._case),
            "frames": frames,
            "frames_per_second": frames / wall,
            "detected_frames_per_second": frames / detected,
            "busy_share": busy,
            "boxes_per_frame": sum(end["boxes"] for end in ended) / max(frames, 1),
            "videos_committed": sum(end["committed"] for end in ended),
            "association_cores": sum(end["cpu_s"] for end in ended) / wall,
            "detector_cores": (process_time() - before) / wall,
            "note": "frames made up in memory: no decoding, no Ray",
        }

    def _device_seconds(self) -> float:
        """Seconds that the device needs for one batch, network and selection."""
        if not self._bench.is_gpu:
            return float("nan")
        from jde_ray.jobs.bench.gpu.networks import Case, alone
        from jde_ray.models.jde.gpu.building import uses_kernels

        model = build(self._bench, self._name, "bf16")
        form = "kernels" if self._case.graphs and uses_kernels(model) else "graph"
        level = self._config.detection.threshold
        figures = alone(
            self._bench, Case(self._name, "bf16", self._chunk_frames, form), model, level
        )
        return float(figures["network_ms"] + figures["selection_ms"]) / 1000

    def _send(self, queues: Sequence[Any], until: float) -> None:
        """Detect in chunks of all videos in turn with several threads."""
        from jde_ray.pipelines.tracking.stages import wire_format

        chunks, lock = self._chunks(until), Lock()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while True:
                    with lock:
                        chunk = next(chunks, None)
                    if chunk is None:
                        return
                    found = self._detector.detect(chunk)
                    if found.error is not None:
                        raise found.error
                    owner = int(chunk.video_id) % len(queues)
                    queues[owner].put(wire_format.pack(found), timeout=_PATIENCE_S)
            except BaseException as error:  # noqa: BLE001  raised again by the caller
                errors.append(error)

        threads = [Thread(target=work) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _chunks(self, until: float) -> Iterator[FrameChunk]:
        for index in count():
            is_last = perf_counter() > until
            for video in range(self._num_videos):
                yield _chunk(str(video), index, self._pictures, is_last=is_last)
            if is_last:
                return


def _answers(results: Any, workers: Sequence[Any]) -> list[dict[str, Any]]:
    """One answer of each process.

    Raises:
        RuntimeError: If one has failed or ended without an answer.
    """
    found: list[dict[str, Any]] = []
    until = perf_counter() + _PATIENCE_S
    while len(found) < len(workers):
        try:
            answer = results.get(timeout=0.5)
        except Empty:
            ended = [worker.exitcode for worker in workers if worker.exitcode]
            if ended or perf_counter() > until:
                why = f"exit code {ended[0]}" if ended else f"no answer for {_PATIENCE_S:.0f} s"
                raise RuntimeError(f"a process of the association: {why}") from None
            continue
        if "failed" in answer:
            raise RuntimeError(f"a process of the association: {answer['failed']}")
        found.append(answer)
    return found


def rendered(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """`(number, height, width, 3)` letterboxed frames of a rendered street."""
    from jde_ray.models.letterbox import Letterbox
    from jde_ray.models.synthetic.render import render
    from jde_ray.models.synthetic.scene import StreetScene

    scene = StreetScene(
        25, width=WIDTH, height=HEIGHT, frames_per_second=20.0, num_people=8, num_frames=number
    )
    letterbox = Letterbox(WIDTH, HEIGHT, width, height)
    return np.stack([letterbox.apply(image) for image, _ in render(scene)])


def _detection(
    bench: Bench, name: str, pictures: NDArray[np.uint8], folder: Path
) -> DetectionConfig:
    """The shipped network, or random weights of another one in a file."""
    from jde_ray.models.jde import weights
    from jde_ray.pipelines.config import DetectionConfig

    precision: Any = "bf16" if bench.is_gpu else "fp32"
    size = pictures.shape[2], pictures.shape[1]
    if name == "small":
        return DetectionConfig(weights=name, size=size, precision=precision)
    path = folder / f"{name}.safetensors"
    level = threshold(build(bench, name, "fp32"), pictures[:2])
    if not path.exists():
        weights.save(random_network(bench, name), path)
    return DetectionConfig(weights=str(path), size=size, precision=precision, score_threshold=level)


def _chunk(video: str, index: int, pictures: NDArray[np.uint8], *, is_last: bool) -> FrameChunk:
    from jde_ray.pipelines.structures import FrameChunk, VideoInfo

    number = len(pictures)
    frames = np.arange(index * number, (index + 1) * number, dtype=np.int64)
    info = VideoInfo(WIDTH, HEIGHT, 20.0)
    return FrameChunk(video, 0, index, frames, frames / 20.0, pictures, info, is_last)


def associate(queue: Any, results: Any, config: TrackConfig, out: str) -> None:
    """A process that owns some of the videos; its last answer says what became of them."""
    try:
        results.put(_associate(queue, results, config, out))
    except Exception as error:  # noqa: BLE001  the parent tells it
        results.put({"failed": f"{type(error).__name__}: {error}"})


def _associate(queue: Any, results: Any, config: TrackConfig, out: str) -> dict[str, Any]:
    from jde_ray.pipelines.config import OutputConfig
    from jde_ray.pipelines.output.run_record import file_metadata
    from jde_ray.pipelines.storage.stores import open_store
    from jde_ray.pipelines.structures import Video
    from jde_ray.pipelines.tracking.stages import wire_format
    from jde_ray.pipelines.tracking.stages.session import VideoSession

    store = open_store(out)
    sessions: dict[str, VideoSession] = {}
    results.put({"started": True})
    before, boxes, frames = process_time(), 0, 0
    while (packed := queue.get()) is not None:
        chunk = wire_format.unpack(packed)
        session = sessions.get(chunk.video_id)
        if session is None:
            video = Video(f"/bench/{chunk.video_id}.mp4", chunk.video_id)
            session = sessions[chunk.video_id] = VideoSession(
                *(video, 0, config, OutputConfig(), store, file_metadata(config)),
                Path(out) / "spool" / chunk.video_id,
            )
        session.deliver(replace(chunk, video_id=session.video.video_id))
        frames += len(chunk.frame_index)
        boxes += int(packed["lengths"].sum())
    committed = sum(session.outcome is not None for session in sessions.values())
    cpu_s = process_time() - before
    return {"frames": frames, "boxes": boxes, "committed": committed, "cpu_s": cpu_s}
