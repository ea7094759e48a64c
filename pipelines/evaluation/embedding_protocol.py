"""The published protocols that score a network directly on frames with ground truth.

Embeddings are read at the ground-truth boxes of all people, detected or not, which saved detections
do not contain. Detections use the protocol's own thresholds, not those of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.finders import Finder, load_finder
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.evaluation.detections import ImageBoxes, image_boxes, truth_of
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, clean_sightings
from jde_ray.pipelines.evaluation.frame_sources import read_some_frames
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.loaded_network import person_embeddings, run_network
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detections import DetectionRows
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.video.chunks import decode_frames

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder

PUBLISHED_SCORE = 0.3  # threshold in the original's `test.py`, which computes its AP
PUBLISHED_NMS = 0.45


def sample_embeddings(
    pairing: Pairing,
    rules: TruthRules = TruthRules(),
    weights: str = "small",
    size: tuple[int, int] | None = None,
    every: int = 1,
    max_frames: int | None = None,
) -> KnownEmbeddings:
    """Embeddings of the people of the ground truth, chosen by `models.jde.person_cells`.

    Args:
        pairing: Frames (a video or an image folder) and their ground truth.
        rules: Rules for reading ground truth.
        weights: Name or path of the network.
        size: Width and height of its input; None for the size it was trained for.
        every: Process every n-th frame.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the weights, the frames or the truth cannot be read, in one line.
    """
    truth = FramesSeen(max_frames, 1).truth(read_truth(truth_of(pairing), rules))
    people = truth.people
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_finder(weights, size).to(device)
    if not model.config.embedding_dim:
        raise ValueError(f"weights: {weights} is a detector without embeddings, expected some")
    vectors, identities, frames = [], [], []
    try:
        for frame, of_frame, own in _read(model, pairing.predictions, people, every):
            vectors.append(of_frame)
            identities.append(own)
            frames.append(np.full(len(own), frame))
    except VideoError as error:
        raise ValueError(f"{pairing.predictions}: {error}") from error
    return _known(truth, vectors, identities, frames, model.config.embedding_dim)


def embed_crops(
    pairing: Pairing,
    rules: TruthRules = TruthRules(),
    *,
    embedder: AppearanceEmbedder,
    every: int = 1,
    max_frames: int | None = None,
) -> KnownEmbeddings:
    """Embeddings of the people of the ground truth by a separate network, from full-size crops.

    Args:
        pairing: Frames (a video or an image folder) and their ground truth.
        rules: Rules for reading ground truth.
        embedder: The re-identification network.
        every: Process every n-th frame.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the frames or the truth cannot be read, in one line.
    """
    truth = FramesSeen(max_frames, 1).truth(read_truth(truth_of(pairing), rules))
    people = truth.people
    wanted = set(people.frame[people.frame % every == 0].tolist())
    vectors, identities, frames = [], [], []
    for frame, picture in read_some_frames(pairing.predictions, wanted):
        here = people[people.frame == frame]
        vectors.append(embedder.embed(picture, here.tlbr).astype(np.float16))
        identities.append(here.track_id)
        frames.append(np.full(len(here), frame))
    return _known(truth, vectors, identities, frames, embedder.width)


def _known(
    truth: GroundTruth,
    vectors: Sequence[FloatArray],
    identities: Sequence[IntArray],
    frames: Sequence[IntArray],
    width: int,
) -> KnownEmbeddings:
    """Embeddings of people, read frame by frame, with what the ground truth says of them."""
    nothing = np.zeros(0, np.int64)
    known, seen = (np.concatenate([nothing, *parts]) for parts in (identities, frames))
    clean = dict(zip(_keys(truth.people), clean_sightings(truth).tolist(), strict=True))
    return KnownEmbeddings(
        np.concatenate([np.zeros((0, width), np.float16), *vectors]),
        known,
        seen,
        np.array([clean[key] for key in zip(seen.tolist(), known.tolist(), strict=True)], bool),
    )


def find_boxes(
    pairing: Pairing,
    rules: TruthRules = TruthRules(),
    weights: str = "small",
    size: tuple[int, int] | None = None,
    every: int = 1,
) -> ImageBoxes:
    """People of the ground truth and detections, with the published score of .3 and NMS of .45.

    Args:
        pairing: Frames (a video or an image folder) and their ground truth.
        rules: Rules for reading ground truth.
        weights: Name or path of the network, or of the YAML of separate ones.
        size: Width and height of its input; None for the size in the weights.
        every: Process every n-th frame.

    Raises:
        ValueError: If the weights, the frames or the truth cannot be read, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    config = replace(
        detection_for(weights, size),
        precision="fp32",
        score_threshold=PUBLISHED_SCORE,
        nms_threshold=PUBLISHED_NMS,
    )
    detector = Detector(config, ResourceConfig(torch_threads=torch.get_num_threads()))
    frames, found = [], []
    source: tuple[int, int] | None = None
    try:
        (video,) = find_videos([str(pairing.predictions)])[0]
        for frame in decode_frames(Segment(video)):
            if frame.frame_index % every:
                continue
            source = (frame.info.width, frame.info.height)
            box = Letterbox(
                *source, *(fitted_size(*source, config.size) if config.rect else config.size)
            )
            pixels = box.place(frame.scaled(*box.scaled_size))
            found += detector.find(pixels[None], [frame.info], [frame.frame_index])[0]
            frames.append(frame.frame_index)
    except VideoError as error:
        raise ValueError(f"{pairing.predictions}: {error}") from error
    counts = [len(one) for one in found]
    rows = BoxRows(
        np.repeat(np.array(frames, np.int64), counts),
        np.arange(sum(counts)),
        np.concatenate([np.zeros((0, 4)), *(one.tlbr for one in found)]),
    )
    scores = np.concatenate([np.zeros(0), *(one.scores for one in found)])
    seen = FramesSeen(None, every)
    return image_boxes(seen.truth(truth), DetectionRows(rows, scores, None), source)


def _read(
    model: Finder, frames: Path, people: BoxRows, every: int
) -> Iterator[tuple[int, FloatArray, IntArray]]:
    """Frame, `(k, D)` float16 vectors and `(k,)` ids, for every frame with people."""
    (video,) = find_videos([str(frames)])[0]
    wanted = set(people.frame[people.frame % every == 0].tolist())
    for frame, box, candidates in run_network(model, video, wanted.__contains__):
        yield frame, *person_embeddings(model, candidates, box, people[people.frame == frame])


def _keys(people: BoxRows) -> Iterator[tuple[int, int]]:
    return zip(people.frame.tolist(), people.track_id.tolist(), strict=True)
