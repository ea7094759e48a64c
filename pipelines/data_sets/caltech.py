"""CalTech pedestrians (Dollar et al. 2009): `setNN/VNNN.seq` videos and `.vbb` annotations.

* `set00` to `set05` are for training, `set06` to `set10` for tests; the published validation of
  embeddings uses 10,000 pictures of `set07`.
* A `.vbb` is a MATLAB file with the struct `A`: per frame the people `id`, `pos` (left, top, width,
  height of the whole person, guessed where hidden) and `posv` (the visible part; zeros if nothing
  is hidden), and per track a label. Cell 1 is frame 0 of the video.
* People are the label `person`. `people` (a group), `person?` (unsure) and `person-fa` (false
  alarm) are left out: the unified layout has no ignored regions.
* Which frames and boxes the published lists keep is not known. Ours: a height of 50 pixels, 65 %
  visible (the benchmark's "reasonable" people), frames with at least one such box.
* Boxes count pixels as MATLAB does, from 1, and are written unchanged, as by the published scripts.
* A track number means another person in every video. The published numbering counts all tracks of
  people, also those without a box that is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.matlab import (
    cells,
    number,
    numbers,
    read_mat,
    struct_of,
    structs,
    text,
)
from jde_ray.pipelines.data_sets.pictures import Notes, Part, Picture, Rules
from jde_ray.pipelines.data_sets.seq_video import read_seq

RULES = Rules(min_height=50.0, min_visible=0.65, classes=("person",))
IS_ONE_NUMBERING = False
CLIPS = False
VERSION = 1.4  # of the annotation format
_FOLDER = "Caltech/data/images"
_TRAIN = 6  # the number of sets for training
_PLACE = re.compile(r"set(\d\d)/V(\d\d\d)\.(?:seq|vbb)$")


@dataclass(frozen=True)
class _Frame:
    """People of a frame: `(n,)` tracks, `(n, 4)` boxes, `(n,)` visible shares."""

    track: tuple[int, ...]
    tlwh: FloatArray
    visible: FloatArray


def find(source: Path, name: str) -> list[Part]:
    """A part per video with an annotation; one that lacks its video is refused when it is read."""
    videos = {_key(path): path for path in sorted(source.rglob("*.seq")) if _key(path)}
    parts = []
    for path in sorted(source.rglob("*.vbb"), key=_key):
        if not (key := _key(path)):
            continue
        number_of_set = int(key[3:5])
        split = "train" if number_of_set < _TRAIN else "val"
        lists = [f"{name}.{split}"] + [f"{name}.10k.val"] * (number_of_set == 7)
        video = videos.get(key, path.with_suffix(".seq"))
        parts.append(Part(key, tuple(lists), (path, video)))
    if not parts:
        raise ValueError(f"{source}: no setNN/VNNN.vbb below it")
    return parts


def _key(path: Path) -> str:
    found = _PLACE.search(path.as_posix())
    return f"set{found[1]}_V{found[2]}" if found else ""


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """Tracks of people: all for the published numbering, else those with a box that is kept."""
    labels, frames = _read_vbb(part.files[0])
    if rules.numbering == "original":
        return [track for track, label in enumerate(labels, 1) if label in (rules.classes or ())]
    kept = (frame.track for frame in _kept(labels, frames, rules, notes).values())
    return sorted({track for tracks in kept for track in tracks})


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """Frames with people, as the JPEG files that the video consists of."""
    annotation, video = part.files
    kept = _kept(*_read_vbb(annotation), rules, notes)
    if not video.is_file():
        notes.problems.add(annotation, None, "missing file", f"there is no {video.name} for it")
        return
    missing = set(kept)
    try:
        for frame, data, suffix in read_seq(video, set(kept)):
            missing.discard(frame)
            people_there = kept[frame]
            image = f"{_FOLDER}/{part.name}_{frame}{suffix}"
            yield Picture(image, data, people_there.tlwh, people_there.track)
    except ValueError as error:
        notes.problems.add(video, None, "unreadable file", str(error))
        return
    if missing:
        got = f"it ends before frame {min(missing)}, which has people"
        notes.problems.add(video, None, "missing image", f"{got} ({len(missing)} such frames)")


def _kept(labels: list[str], frames: list[_Frame], rules: Rules, notes: Notes) -> dict[int, _Frame]:
    """The people that the rules keep, of frames that have any."""
    kept = {}
    for index, frame in enumerate(frames):
        label = np.array([labels[track - 1] for track in frame.track], dtype=object)
        reasons = {
            "another label": ~np.isin(label, rules.classes or ()),
            "too small": frame.tlwh[:, 3] < (rules.min_height or 0),
            "too hidden": frame.visible < (rules.min_visible or 0),
        }
        stays = np.ones(len(label), bool)
        for reason, is_so in reasons.items():
            notes.left_out[reason] += int((stays & is_so).sum())
            stays &= ~is_so
        if stays.any():
            tracks = tuple(t for t, k in zip(frame.track, stays, strict=True) if k)
            kept[index] = _Frame(tracks, frame.tlwh[stays], frame.visible[stays])
    return kept


def _read_vbb(path: Path) -> tuple[list[str], list[_Frame]]:
    """Labels of the tracks, and the people of every frame.

    Raises:
        ValueError: If the file is damaged or of another version.
    """
    content = read_mat(path, "A", "vers")
    version = number(content["vers"])
    if abs(version - VERSION) > 1e-6:
        raise ValueError(f"got version {version:g} of the format, expected {VERSION}")
    annotation = struct_of(content["A"], "objLists", "objLbl")
    labels = [text(one) if np.size(one) else "" for one in cells(annotation["objLbl"])]
    frames = []
    for index, listed in enumerate(cells(annotation["objLists"])):
        try:
            frames.append(_read_frame(listed, len(labels)))
        except ValueError as error:
            raise ValueError(f"frame {index}: {error}") from error
    return labels, frames


def _read_frame(listed: object, num_tracks: int) -> _Frame:
    tracks, boxes, visible = [], [], []
    for one in structs(listed, "id", "pos", "posv"):
        track = number(one["id"])
        if track != int(track) or not 1 <= track <= num_tracks:
            raise ValueError(f"got track {track:g}, expected 1 to {num_tracks}")
        box, part = numbers(one["pos"], 4), numbers(one["posv"], 4)
        if len(box) != 1 or len(part) > 1:
            raise ValueError(f"got {len(box)} boxes of a person, expected one")
        area, seen = box[0, 2] * box[0, 3], part[:, 2] * part[:, 3]
        is_whole = not len(part) or not part.any()
        tracks.append(int(track))
        boxes.append(box[0])
        visible.append(1.0 if is_whole or area <= 0 else float(seen[0] / area))
    return _Frame(tuple(tracks), np.array(boxes).reshape(-1, 4), np.array(visible))
