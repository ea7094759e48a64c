"""How the fast modes of a network change its results, for `jde bench precision`.

Each mode detects and tracks the same frames. The reference is the network as loaded: float32,
layer by layer, in torch's default memory format.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, FloatArray, Tracks
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.model import FoundInFrame, in_source_pixels
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.video.chunks import decode_segment

if TYPE_CHECKING:
    from jde_ray.models.jde.int8 import Int8JDE
    from jde_ray.models.jde.network import JDE

REFERENCE = "float32, as loaded"
MODES = ("channels last", "folded norms, channels last (fp32)", "bfloat16 (bf16)")
INT8 = "8-bit integers (int8)"  # of weights that have been quantised
SAME_BOX = 0.5  # lowest IoU at which boxes of two modes count as the same person


@dataclass(frozen=True)
class Seen:
    """Results of one mode on one frame."""

    detections: Detections
    tracks: Tracks


def build_models(weights: str, size: tuple[int, int] | None) -> dict[str, JDE | Int8JDE]:
    """Build the reference and the modes from the same weights; int8 if there is such a file.

    Raises:
        ValueError: If the weights cannot be used.
    """
    import torch

    from jde_ray.models.jde import int8
    from jde_ray.models.jde.fusion import optimise
    from jde_ray.models.jde.weights import load

    def fresh() -> JDE:
        return load(weights, size)

    plain = fresh().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    channels_last = plain.normalise
    plain.normalise = lambda frames: channels_last(frames).contiguous()
    models: dict[str, JDE | Int8JDE] = {
        REFERENCE: plain,
        MODES[0]: fresh(),
        MODES[1]: optimise(fresh(), "fp32"),
        MODES[2]: optimise(fresh(), "bf16"),
    }
    with suppress(ValueError):  # not quantised, or openvino is not installed
        models[INT8] = int8.Int8JDE(int8.find(weights), torch.get_num_threads())
    return models


def watch(
    video: Video, config: TrackConfig, models: dict[str, JDE | Int8JDE]
) -> dict[str, list[Seen]]:
    """Detect and track every frame of a video with every mode.

    Raises:
        VideoError: If a frame cannot be read.
    """
    resources = ResourceConfig(chunk_frames=4)
    seen: dict[str, list[Seen]] = {name: [] for name in models}
    trackers: dict[str, JDETracker] = {}
    loaded = {name: _Loaded(model, config.detection) for name, model in models.items()}
    detectors = {
        name: Detector(config.detection, resources, lambda *_, model=model: model)
        for name, model in loaded.items()
    }
    for chunk in frame_chunks(decode_segment, Segment(video), config, resources):
        for name in models:
            found = detectors[name].detect(chunk)
            if found.error is not None:
                raise found.error
            tracker = trackers.setdefault(
                name, JDETracker(config.tracking, chunk.info.frames_per_second)
            )
            for d in found.detections:
                tracks = tracker.update(d.tlbr, d.scores, d.embeddings.astype(np.float32))
                seen[name].append(Seen(d, tracks))
    return seen


@dataclass(frozen=True)
class _Loaded:
    """A network that is loaded already, as the dataflow's detector takes it."""

    network: JDE | Int8JDE
    config: DetectionConfig

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        import torch

        from jde_ray.models.jde.network import JDE

        config, network = self.config, self.network
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        if isinstance(network, JDE):
            return in_source_pixels(network.detect(torch.tensor(frames), *limits), letterboxes)
        return in_source_pixels(network.detect(frames, *limits), letterboxes)


def compare(reference: Sequence[Seen], other: Sequence[Seen]) -> dict[str, Any]:
    """Compare one mode with the reference over the same frames.

    Returns:
        `detections`: number in the reference; `lost`, `gained`: detections in only one of the two.
        `moved_median_px`, `moved_mean_px`, `moved_p99_px`, `moved_max_px`: largest change of any
        coordinate of a box, in source pixels (a box moves far where NMS prefers another candidate
        of the same person). `embedding_distance`: mean distance. `rows`, `rows_lost`,
        `rows_gained`: the same for track rows. `ids_changed`: rows whose identity is not the one
        that most often goes with their reference identity.
    """
    moved: list[FloatArray] = []
    distances: list[FloatArray] = []
    counts: Counter[str] = Counter()
    identities: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for one, two in zip(reference, other, strict=True):
        a, b = _pairs(one.detections.tlbr, two.detections.tlbr)
        counts["detections"] += len(one.detections)
        counts["lost"] += len(one.detections) - len(a)
        counts["gained"] += len(two.detections) - len(b)
        moved.append(np.abs(one.detections.tlbr[a] - two.detections.tlbr[b]).max(1, initial=0.0))
        vectors = (s.detections.embeddings[i].astype(np.float32) for s, i in ((one, a), (two, b)))
        distances.append(np.linalg.norm(next(vectors) - next(vectors), axis=1))
        a, b = _pairs(one.tracks.tlbr, two.tracks.tlbr)
        counts["rows"] += len(one.tracks)
        counts["rows_lost"] += len(one.tracks) - len(a)
        counts["rows_gained"] += len(two.tracks) - len(b)
        for i, k in zip(one.tracks.track_id[a], two.tracks.track_id[b], strict=True):
            identities[int(i)][int(k)] += 1
    every = np.concatenate([np.zeros(1), *moved])[1:] if sum(map(len, moved)) else np.zeros(1)
    apart = np.concatenate(distances) if sum(map(len, distances)) else np.zeros(1)
    return {
        **{name: counts[name] for name in ("detections", "lost", "gained")},
        "moved_median_px": float(np.median(every)),
        "moved_mean_px": float(every.mean()),
        "moved_p99_px": float(np.percentile(every, 99)),
        "moved_max_px": float(every.max()),
        "embedding_distance": float(apart.mean()),
        **{name: counts[name] for name in ("rows", "rows_lost", "rows_gained")},
        "ids_changed": sum(sum(c.values()) - max(c.values()) for c in identities.values()),
    }


def _pairs(a: FloatArray, b: FloatArray) -> tuple[Any, Any]:
    """Match boxes of `a` and `b` by overlap; returns indices into both."""
    from scipy.optimize import linear_sum_assignment

    overlap = iou_matrix(a, b)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    same = overlap[rows, columns] >= SAME_BOX
    return rows[same], columns[same]


def measure(
    video: Video, models: dict[str, JDE | Int8JDE], max_frames: int
) -> Iterator[dict[str, Any]]:
    """Yield one row per mode: the video, the number of frames and the result of `compare`."""
    detection = DetectionConfig(size=models[REFERENCE].config.size)
    seen = watch(video, TrackConfig(detection=detection, max_frames=max_frames), models)
    for mode in (name for name in models if name != REFERENCE):
        yield {
            "video": video.video_id,
            "mode": mode,
            "frames": len(seen[REFERENCE]),
            **compare(seen[REFERENCE], seen[mode]),
        }
