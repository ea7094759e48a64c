"""Detections and embeddings of a loaded network on frames with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from jde_ray.models.jde.decode import Candidates, select
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.detection.finders import Finder, input_size, read_people
from jde_ray.pipelines.evaluation.detections import ImageBoxes, image_boxes
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.formats.detections import DetectionRows
from jde_ray.pipelines.formats.mot import GroundTruth, rows_of_frames
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.video.chunks import decode_frames

MOST_BOXES = 300  # scored detections per frame


@torch.inference_mode()
def run_network(
    model: Finder, video: Video, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, Letterbox, Candidates]]:
    """Run a network on frames of a video, one at a time, with the input size used by tracking.

    Args:
        model: Network in evaluation mode, on any device.
        video: A video file or an image folder.
        wanted: Tells by its number (from 0) whether a frame is processed.

    Yields:
        Number of the frame, its letterbox, and all candidates of the network.

    Raises:
        VideoError: If the video cannot be read.
    """
    for picture in decode_frames(Segment(video)):
        if not wanted(picture.frame_index):
            continue
        source = (picture.info.width, picture.info.height)
        box = Letterbox(*source, *input_size(model, *source))
        pixels = torch.from_numpy(box.place(picture.scaled(*box.scaled_size)))
        yield picture.frame_index, box, model(model.normalise(pixels[None]))


def person_embeddings(
    model: Finder, candidates: Candidates, box: Letterbox, people: BoxRows
) -> tuple[FloatArray, IntArray]:
    """Embeddings of the people of one frame, where the network describes them (`read_people`).

    Args:
        model: The network.
        candidates: Its candidates for the frame.
        box: Letterbox of the frame.
        people: People of the frame, boxes in source pixels.

    Returns:
        `(k, D)` float16 embeddings and the `(k,)` ids of their people.
    """
    tlbr = torch.as_tensor(box.to_network(people.tlbr), dtype=torch.float32)
    who, found = read_people(model, candidates, tlbr.to(candidates.boxes.device))
    vectors = found.float().cpu().numpy().astype(np.float16)
    return vectors, people.track_id[who.cpu().numpy()]


def judge_network(
    model: Finder,
    video: Video,
    truth: GroundTruth,
    seen: FramesSeen,
    *,
    score_threshold: float,
    nms_threshold: float,
) -> tuple[ImageBoxes, KnownEmbeddings]:
    """Detections and embeddings of a network with the ground truth, in one pass over the frames.

    Args:
        model: Network in evaluation mode, on any device.
        video: A video file or an image folder.
        truth: Ground truth of the whole video.
        seen: Frames to score.
        score_threshold: Detections above this score count.
        nms_threshold: IoU above which a weaker detection is suppressed.

    Raises:
        VideoError: If the video cannot be read.
        FloatingPointError: If the network's output is not finite.
    """
    truth = seen.truth(truth)
    boxes: list[tuple[int, IntArray, FloatArray]] = []
    scores: list[FloatArray] = [np.zeros(0)]
    vectors: list[FloatArray] = [np.zeros((0, model.config.embedding_dim), np.float16)]
    identities: list[IntArray] = [np.zeros(0, np.int64)]
    for frame, box, candidates in run_network(model, video, seen.has):
        (kept,) = select(candidates, score_threshold, nms_threshold, MOST_BOXES)
        boxes.append((frame, np.arange(len(kept.tlbr)), box.to_source(kept.tlbr)))
        scores.append(kept.scores)
        people = truth.people[truth.people.frame == frame]
        if len(people):
            here, who = person_embeddings(model, candidates, box, people)
            vectors.append(here)
            identities.append(who)
    found = DetectionRows(rows_of_frames(boxes), np.concatenate(scores), None)
    known = KnownEmbeddings(np.concatenate(vectors), np.concatenate(identities))
    return image_boxes(truth, found), known
