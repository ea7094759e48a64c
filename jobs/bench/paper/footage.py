"""The sequences of a comparison, with their ground truth, or rendered streets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jde_ray.pipelines.evaluation.ground_truth import TruthRules, find_truths, read_truth
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.saved_tracks import by_all_names
from jde_ray.pipelines.structures import Video

_STREETS = {"few": (6, 11), "many": (40, 12)}  # people at a time, and the seed
_VISIBLE = 0.25  # rendered people less visible than this count neither as hits nor as misses


@dataclass(frozen=True)
class Footage:
    """A video and its ground truth, None if there is none."""

    video: Video
    truth: GroundTruth | None


def find_sequences(places: Sequence[Path], rules: TruthRules = TruthRules()) -> list[Footage]:
    """Find videos and image folders below `places`, each with its truth if that is one file.

    Raises:
        RunError: If there is no video.
        ValueError: If ground truth cannot be read.
    """
    videos, _ = find_videos([str(place) for place in places])
    truths: dict[str, list[Path]] = {}
    for place in places:
        for name, files in find_truths(place if place.is_dir() else place.parent).items():
            truths.setdefault(name, []).extend(files)
    found, named = [], by_all_names(truths)
    for video in videos:
        files = named.get(video.name, [])
        truth = read_truth(files[0], rules) if len(files) == 1 else None
        found.append(Footage(video, truth))
    return found


def find_footage(data: list[Path] | None, out: Path, max_frames: int | None) -> list[Footage]:
    """Find sequences with ground truth; without data, render streets below `out`.

    Raises:
        ValueError: If there is none with ground truth.
    """
    if data:
        footage = [one for one in find_sequences(data) if one.truth is not None]
        if not footage:
            raise ValueError(f"data: no sequence with ground truth in {data[0]}")
        return footage
    render_streets(out / "streets", max_frames or 60)
    return find_sequences([out / "streets"], TruthRules(min_visibility=_VISIBLE))


def render_streets(folder: Path, num_frames: int) -> None:
    """Render two streets with different crowds, unless they exist in this length."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.formats.sequence_info import read_sequence_info
    from jde_ray.pipelines.video.synthetic import render_street

    for name, (people, seed) in _STREETS.items():
        about = folder / name / "seqinfo.ini"
        if about.exists() and read_sequence_info(about).num_frames == num_frames:
            continue
        about.unlink(missing_ok=True)
        scene = StreetScene(seed, num_people=people, num_frames=num_frames)
        render_street(scene, folder / "videos" / f"{name}.mp4", folder / name)
