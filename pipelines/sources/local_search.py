"""Finds the videos behind a local path or glob: files, folders, folders of images."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.sequence_info import sequence_rate
from jde_ray.pipelines.names import VIDEO_SUFFIXES
from jde_ray.pipelines.output import layout
from jde_ray.pipelines.sources.contents import refusal
from jde_ray.pipelines.sources.findings import Failure, Finding, failure, shown
from jde_ray.pipelines.sources.passed_over import (
    DRAWN,
    FOLDER_LINK,
    PICTURE,
    PassedOver,
    media_kind,
)
from jde_ray.pipelines.sources.s3_search import MOST_DEEP, TOO_DEEP
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import to_video_error
from jde_ray.pipelines.video.image_folder import images_version, is_image


def glob_videos(pattern: str) -> Iterator[Finding]:
    """Videos that a glob matches, and those in matching folders; one failure if there is none.

    Raises:
        VideoError: If it has more than `MOST_DEEP` `**`.
    """
    if pattern.count("**") > MOST_DEEP:
        raise VideoError(Reason.UNSUPPORTED_FORMAT, f"{shown(pattern)}: {TOO_DEEP}")
    matches = [Path(match) for match in sorted(set(glob.iglob(pattern, recursive=True)))]
    by_folder: dict[Path, list[str]] = {}
    for path in matches:
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            by_folder.setdefault(path.parent, []).append(path.name)
    found: list[Finding] = []
    named = os.path.dirname(pattern)  # no folder has this name if it contains wildcards
    for folder, names in by_folder.items():
        found += _videos(folder, names, is_named=folder == Path(named))
    for path in matches:
        if path.is_dir() and path.name != "img1":
            found += _folder(path, is_named=False)
    if all(isinstance(one, PassedOver) for one in found):
        detail = f"{shown(pattern)} matches no video"
        yield failure(pattern, VideoError(Reason.NOT_FOUND, detail))
    yield from found


def search_folder(folder: Path) -> Iterator[Finding]:
    """Videos below a folder that is named itself, or its pictures as one if there is no other."""
    found = _folder(folder, is_named=True)
    if any(not isinstance(one, PassedOver) for one in found):
        yield from found
    elif any(is_image(name) for name in os.listdir(folder)):
        yield _images(folder)
    else:
        detail = f"no video in folder {shown(str(folder))}"
        yield failure(str(folder), VideoError(Reason.NOT_FOUND, detail))
        yield from found


def _folder(folder: Path, *, is_named: bool) -> list[Finding]:
    if folder.name == "img1" and (folder.parent / "seqinfo.ini").is_file():
        return [_images(folder.resolve().parent)]
    found: list[Finding] = []
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(name)
        if "img1" in folders and "seqinfo.ini" in files:
            found.append(_images(here))
            folders.clear()
            continue
        cropped = _cropped_videos(here)
        folders[:] = [f for f in folders if not (f.startswith(".") or f in cropped)]
        videos = [file for file in files if _is_video(file)]
        found += _videos(here, videos, is_named=is_named and here == folder)
        kinds = Counter(kind for file in files if (kind := media_kind(file)))
        kinds[FOLDER_LINK] = sum((here / f).is_symlink() for f in folders)
        if videos or layout.RUN_KEY in files:  # images here are thumbnails, or belong to a run
            del kinds[PICTURE]
        if any(kinds.values()):
            place = os.path.realpath(here)
            found += [PassedOver(kind, place, number) for kind, number in kinds.items() if number]
    return found + [_unreadable(error) for error in unreadable]


def _videos(folder: Path, names: list[str], *, is_named: bool) -> Iterator[Finding]:
    """Videos of a folder, without those drawn by a run unless the folder itself was named."""
    drawn = frozenset() if is_named else _drawn_videos(folder).intersection(names)
    if drawn:
        yield PassedOver(DRAWN, os.path.realpath(folder), len(drawn))
    yield from (_file(folder / name) for name in names if name not in drawn)


def _is_video(file: str) -> bool:
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES


def _drawn_videos(folder: Path) -> frozenset[str]:
    """Names of videos here that a run drew: in `videos` of its OUT, with tracks of that name.

    OUT may be below its own source, and its drawn videos are not recordings.
    """
    out = folder.parent
    if f"{folder.name}/" != layout.VIDEOS_PREFIX or not (out / layout.RUN_KEY).is_file():
        return frozenset()
    try:
        tracks = os.listdir(out / layout.TRACKS_PREFIX)
    except OSError:
        return frozenset()
    return frozenset(f"{name.removesuffix('.parquet')}.mp4" for name in tracks)


def _cropped_videos(folder: Path) -> frozenset[str]:
    """Names of folders here with a run's crops, of which there may be many: `crops` of its OUT."""
    if f"{folder.name}/" != layout.CROPS_PREFIX or not (folder.parent / layout.RUN_KEY).is_file():
        return frozenset()
    try:
        tables = os.listdir(folder.parent / layout.CROP_INDEX_PREFIX)
    except OSError:
        return frozenset()
    return frozenset(name.removesuffix(".parquet") for name in tables)


def _unreadable(error: OSError) -> Failure:
    detail = f"{error.filename}: {to_video_error(error).detail}"
    return failure(str(error.filename), VideoError(to_video_error(error).reason, detail))


def _canonical(path: Path) -> str:
    """Absolute path with links resolved in its folder; the file name itself is kept."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def look_at_file(path: Path) -> Video | Failure:
    """A file that is named itself may have any suffix, but not any content."""
    video = _file(path)
    if not isinstance(video, Video) or _is_video(path.name) or is_image(path.name):
        return video
    error = refusal(video, shown(str(path)))
    return video if error is None else failure(str(path), error)


def _file(path: Path) -> Video | Failure:
    uri = _canonical(path)
    if not _is_text(uri):
        return failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    if is_image(path.name):
        return Video(uri, path.stem, True, version=_images_version(uri))
    try:
        status = path.stat()
    except OSError:  # a broken link; decoding reports the error
        return Video(uri, path.stem)
    version = f"{status.st_size}-{status.st_mtime_ns}"
    return Video(uri, path.stem, num_bytes=status.st_size, version=version)


def _images(folder: Path) -> Video | Failure:
    uri = os.path.realpath(folder)
    if not _is_text(uri):
        return failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    rate = sequence_rate(Path(uri))
    return Video(uri, os.path.basename(uri), True, rate, version=_images_version(uri))


def _images_version(uri: str) -> str:
    try:
        return images_version(uri)
    except OSError:  # decoding reports the error
        return ""


def _is_text(uri: str) -> bool:
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True
