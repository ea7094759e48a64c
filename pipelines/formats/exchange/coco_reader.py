"""Reads COCO annotations with track ids as ground truth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.formats.exchange.annotated import (
    AnnotatedVideo,
    Picture,
    Refuse,
    people_among,
)
from jde_ray.pipelines.formats.limits import MOST_PIXELS
from jde_ray.pipelines.names import VIDEO_SUFFIXES

_MOST_FRAMES = 2**31  # pictures may be named by seconds since 1970
_NUMBER = re.compile(r"(\d+)\D*\Z")
_CVAT_FRAME = re.compile(r"frame_\d+\Z")  # CVAT's own names of frames, which count from 0
Entry = Mapping[str, Any]


def read_coco(path: Path, refuse: Refuse) -> list[AnnotatedVideo]:
    """The videos of a COCO file; one of all pictures if it does not name videos.

    A picture's frame is its `frame_id` or `frame_index`; else the number at the end of its file
    name, which counts from 0 in `frame_000000.png` and where a picture has the number 0, else from
    1. An id is `track_id`, also among `attributes`, or `instance_id`. Boxes of crowds are ignored.

    Args:
        path: The JSON file.
        refuse: Called with every error; a lenient caller collects them, and such boxes are left
            out.

    Raises:
        ValueError: If it is not a COCO file, in one line.
    """
    content = load_coco(path)
    images = _by_id(content["images"], "image", refuse)
    names = {entry["id"]: str(entry.get("name", "")) for entry in _categories(content, path)}
    people = people_among(set(names.values()))
    boxes: dict[Any, list[tuple[Any, bool, bool]]] = {}
    for entry in content.get("annotations", ()):
        found = _read_box(entry, images, refuse)
        if found is not None:
            is_person = names.get(_id(entry, "category_id")) in people
            boxes.setdefault(entry["image_id"], []).append(
                (found, is_person, bool(entry.get("iscrowd")))
            )
    return [_video(name, own, boxes, refuse) for name, own in _of_videos(content, images) if own]


def load_coco(path: Path) -> dict[str, Any]:
    """The content of a COCO file.

    Raises:
        ValueError: If it cannot be read or is other JSON, in one line.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable COCO file ({reason})") from error
    lists = ("images", "annotations", "categories", "videos")
    is_coco = isinstance(content, dict) and "images" in content
    if not is_coco or not all(isinstance(content.get(name, []), list) for name in lists):
        raise ValueError(f"{path}: got other JSON, expected COCO: images, annotations, categories")
    entries = (entry for name in lists for entry in content.get(name, ()))
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: got lists of other things, expected COCO's mappings")
    return content


def video_names(path: Path) -> list[str]:
    """Names of the videos in a COCO file, each as often as there are such; empty for no names.

    Raises:
        ValueError: If it is not a COCO file.
    """
    return [name for name in _names(load_coco(path)).values() if name]


def _names(content: Entry) -> dict[Any, str]:
    """Names of the videos by id: the last part of `name`, without the suffix of a video file."""
    found = {}
    for entry in content.get("videos", ()):
        text = str(entry.get("name") or entry.get("file_name") or "")
        own = PurePosixPath(text.rstrip("/"))
        is_file = own.suffix.lower() in VIDEO_SUFFIXES
        found[_id(entry, "id")] = own.stem if is_file else own.name
    return found


def _categories(content: Entry, path: Path) -> Sequence[Entry]:
    categories: Sequence[Entry] = content.get("categories", ())
    if any(_id(entry, "id") is None for entry in categories):
        raise ValueError(f"{path}: a category has no id")
    return categories


def _id(entry: Entry, key: str) -> int | str | None:
    """A number or name by which entries refer to each other; None for anything else."""
    value = entry.get(key)
    return value if isinstance(value, int | str) else None


def _by_id(entries: Sequence[Entry], what: str, refuse: Refuse) -> dict[Any, Entry]:
    found: dict[Any, Entry] = {}
    for place, entry in enumerate(entries):
        number = _id(entry, "id")
        if number is None:
            refuse(what, f"number {place} has no id")
        elif number in found:
            refuse(what, f"got id {_short(number)} twice, expected each once")
        else:
            found[number] = entry
    return found


def _of_videos(
    content: Entry, images: Mapping[Any, Entry]
) -> Iterator[tuple[str, dict[Any, Entry]]]:
    """Name and images of each video; those of no video come last, under ""."""
    names = _names(content)
    found: dict[Any, dict[Any, Entry]] = {video: {} for video in names}
    of_none: dict[Any, Entry] = {}
    for number, entry in images.items():
        found.get(_id(entry, "video_id"), of_none)[number] = entry
    yield from ((names[video], own) for video, own in found.items())
    yield "", of_none


def _read_box(entry: Entry, images: Mapping[Any, Entry], refuse: Refuse) -> Any:
    """Left, top, width, height and id of an annotation; None if it is wrong."""
    name = f"annotation {_short(entry.get('id'))}"
    if _id(entry, "image_id") not in images:
        got = _short(entry.get("image_id"))
        refuse("annotation", f"{name}: got image_id {got}, which no image has")
        return None
    box = entry.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(map(_is_finite, box))
        or min(box[2:]) < 0
    ):
        refuse("box", f"{name}: got bbox {_short(box)}, expected left, top, width, height")
        return None
    attributes = entry.get("attributes")
    values = (entry, attributes if isinstance(attributes, dict) else {})
    found = [own.get(key) for key in ("track_id", "instance_id") for own in values]
    track_id = next((value for value in found if value is not None), -1)
    try:
        number = int(track_id)
        if not -1 <= number < 2**63 or number != float(track_id):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        refuse("identity", f"{name}: got track_id {_short(track_id)}, expected a whole number")
        number = -1
    return (*box, number)


def _is_finite(value: Any) -> bool:
    """Whether a value is a number of a size that a picture may have."""
    return isinstance(value, int | float) and abs(value) < MOST_PIXELS


def _video(
    name: str,
    images: Mapping[Any, Entry],
    boxes: Mapping[Any, list[tuple[Any, bool, bool]]],
    refuse: Refuse,
) -> AnnotatedVideo:
    frames = _frames(images, refuse)
    pictures: list[tuple[Picture, Any]] = []
    for number, entry in images.items():
        if number in frames:
            sides: list[Any] = [entry.get(side) for side in ("width", "height")]
            width, height = (float(v) if _is_finite(v) else 0.0 for v in sides)
            file = str(entry.get("file_name", ""))
            pictures.append((Picture(frames[number], file, width, height), number))
    pictures.sort(key=lambda one: one[0].frame)
    own = [(p.frame, *b) for p, number in pictures for b in boxes.get(number, ())]
    table = np.array([box for _, box, _, _ in own], np.float64).reshape(-1, 5)
    ids = np.array([box[4] for _, box, _, _ in own], np.int64)
    tlbr = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return AnnotatedVideo(
        name,
        [picture for picture, _ in pictures],
        BoxRows(np.array([frame for frame, *_ in own], np.int64), ids, tlbr),
        np.array([is_person for *_, is_person, _ in own], bool),
        np.array([is_crowd for *_, is_crowd in own], bool),
    )


def _frames(images: Mapping[Any, Entry], refuse: Refuse) -> dict[Any, int]:
    """0-based frame of each image, each at most once."""
    numbered: dict[Any, int] = {}
    from_names: dict[Any, int] = {}
    counts_from_0 = False
    for number, entry in images.items():
        key = "frame_index" if entry.get("frame_id") is None else "frame_id"
        given = entry.get(key)
        if given is not None:
            if isinstance(given, int | float) and 0 <= given < _MOST_FRAMES and given == int(given):
                numbered[number] = int(given)
            else:
                got = f"got {key} {_short(given)}, expected 0 to {_MOST_FRAMES - 1}"
                refuse("image", f"image {_short(number)}: {got}")
            continue
        stem = PurePosixPath(str(entry.get("file_name", ""))).stem
        match = _NUMBER.search(stem)
        if match is None or int(match[1]) >= _MOST_FRAMES:
            refuse(
                "image", f"image {_short(number)}: got file_name {_short(stem)}, expected a number"
            )
            continue
        from_names[number] = int(match[1])
        counts_from_0 |= bool(_CVAT_FRAME.match(stem)) or int(match[1]) == 0
    numbered |= {n: frame if counts_from_0 else frame - 1 for n, frame in from_names.items()}
    taken: dict[int, Any] = {}
    for number, frame in list(numbered.items()):
        if taken.setdefault(frame, number) != number:
            both = f"images {_short(taken[frame])} and {_short(number)}"
            refuse("image", f"{both} are both of frame {frame}")
            del numbered[number]
    return numbered


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
