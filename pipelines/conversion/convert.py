"""Convert the tracks of a run into files of another tool, in a folder or bucket of their own.

Each file is written whole or not at all. A second call writes all of them again, so that it also
continues one that was killed, and follows tracks that have changed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jde_ray.pipelines.conversion.kinds import KINDS, Kind
from jde_ray.pipelines.formats.exchange.mot_challenge import names_for_detectors
from jde_ray.pipelines.formats.exchange.video_tracks import (
    Choices,
    VideoTracks,
    read_video_tracks,
)
from jde_ray.pipelines.names import make_id, plain_names
from jde_ray.pipelines.parallel import for_each, in_turn
from jde_ray.pipelines.processes import mark, sweep
from jde_ray.pipelines.sources.saved_tracks import list_tracks, local_file, record_of, stride_of
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store, writing

RECORD_KEY = "convert.json"
ZIP_KEY = "submission.zip"
_TEMPORARY = ".tmp-"  # as in `pipelines.storage.local`
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date of a zip; no clock in files


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What is written.

    Attributes:
        to: One of `KINDS`.
        choices: Details of the format.
        detectors: MOT text under MOT17's three names of each sequence.
        zipped: MOT text also in a zip for the server.

    Raises:
        ValueError: If the format is unknown, or has no such detail.
    """

    to: str
    choices: Choices = field(default_factory=Choices)
    detectors: bool = False
    zipped: bool = False

    def __post_init__(self) -> None:
        if self.to not in KINDS:
            raise ValueError(f"to: got {self.to!r}, expected {' | '.join(KINDS)}")
        flags = {
            "scores": (self.choices.scores, "mot"),
            "detectors": (self.detectors, "mot"),
            "zip": (self.zipped, "mot"),
            "no-track-ids": (not self.choices.track_ids, "yolo"),
        }
        for flag, (is_given, kind) in flags.items():
            if is_given and self.to != kind:
                raise ValueError(f"{flag}: got --to {self.to}, expected it with --to {kind}")

    @property
    def kind(self) -> Kind:
        """The format."""
        return KINDS[self.to]


@dataclass(frozen=True)
class Converted:
    """What became of one video.

    Attributes:
        name: Name of its files.
        uri: Address of the video; empty if unknown.
        num_rows: Rows written.
        num_tracks: Tracks among them.
        num_cut: Boxes that were cut off at the picture's border.
        num_outside: Boxes left out because nothing of them lies in the picture.
    """

    name: str
    uri: str
    num_rows: int
    num_tracks: int
    num_cut: int
    num_outside: int


class _Item(NamedTuple):
    """A file of tracks, its plain name, and the names under which it is written."""

    file: str
    name: str
    also: tuple[str, ...]


def convert(
    source: str, out: str, config: ConvertConfig, address: str | None = None
) -> list[Converted]:
    """Convert all tracks of a run.

    Args:
        source: OUT of the run (also `s3://`), its refined tracks, a folder of its Parquet files or
            of MOT text, or one such file.
        out: Folder or `s3://` prefix; empty, or of the same conversion.
        config: Format and details.
        address: Address of the Ray cluster; None for this process if there are few videos.

    Returns:
        One result per video, by name.

    Raises:
        ValueError: If there are no tracks, a file cannot be read or lacks what the format needs, or
            `out` holds something else.
        OSError: If a store cannot be used.
        RunError: If there is no Ray at the address.
    """
    if config.kind.is_one_file and address is not None:
        raise ValueError(f"address: got {address}, but --to {config.to} writes one file, here")
    files = list_tracks(source)
    items = _items(files, config)
    stride = stride_of(record_of(source))
    store = open_store(out)
    with writing(store, "out"):
        _begin(store, source, config)
    if config.kind.is_one_file:
        done = _convert_together(store, items, config, stride)
    else:
        work = partial(_convert_one, out=store.uri, config=config, stride=stride)
        done = for_each(work, items, address)
    finish = getattr(config.kind.load(), "finish", None)
    with writing(store, "out"):
        if finish is not None:
            for key, body in finish([(one.name, one.uri) for one in done]).items():
                store.put(key, body)
        if config.zipped:
            _put_zip(store, [name for item in items for name in item.also])
    return done


def _items(files: Sequence[str], config: ConvertConfig) -> list[_Item]:
    ids = [Path(file.rpartition("/")[2]).stem for file in files]
    names = {
        own: _free_name(own, name, config.kind.taken) for own, name in plain_names(ids).items()
    }
    also: Mapping[str, tuple[str, ...]] = {}
    if config.detectors:
        also = names_for_detectors(list(names.values()))
    pairs = sorted((names[own], file) for own, file in zip(ids, files, strict=True))
    return [_Item(file, name, also.get(name, (name,))) for name, file in pairs]


def _free_name(video_id: str, name: str, taken: Sequence[str]) -> str:
    """The name, or one with a hash if it is taken; some disks do not tell capitals apart."""
    if name.casefold() not in taken:
        return name
    return make_id(name, name) if video_id == name else video_id


def _begin(store: ObjectStore, source: str, config: ConvertConfig) -> None:
    """Create `convert.json`, or check the one that is there."""
    place = source if "://" in source else str(Path(source).absolute())
    record = json.loads(json.dumps({"from": place.rstrip("/"), **asdict(config)}))
    content = f"{json.dumps(record, indent=1, sort_keys=True)}\n".encode()
    if not store.exists(RECORD_KEY):
        if next(iter(store.list("")), None) is not None:
            raise ValueError(f"out: {store.uri} is not empty; choose another folder")
        if store.put_if_absent(RECORD_KEY, content):
            return
    try:
        before = json.loads(store.get(RECORD_KEY))
    except ValueError as error:
        raise ValueError(f"out: {store.uri}/{RECORD_KEY} cannot be read ({error})") from error
    if before != record:
        raise ValueError(f"out: {store.uri} holds files of another conversion; choose another")


def _read(item: _Item, config: ConvertConfig, stride: int) -> tuple[VideoTracks, Converted]:
    with (
        tempfile.TemporaryDirectory(prefix="jde-convert-") as folder,
        local_file(item.file, Path(folder)) as path,
    ):
        video = read_video_tracks(path, item.name, stride, config.kind.needs)
    num_cut = num_outside = 0
    if config.kind.clips:
        video, num_cut, num_outside = video.clipped()
    num_tracks = len(set(video.track_id.tolist()))
    done = Converted(item.name, video.uri, len(video), num_tracks, num_cut, num_outside)
    return video, done


def _convert_one(item: _Item, *, out: str, config: ConvertConfig, stride: int) -> Converted:
    video, done = _read(item, config, stride)
    store, module = open_store(out), config.kind.load()
    files: Mapping[str, bytes] = module.write(video, config.choices)
    if config.kind.is_folder:
        with writing(store, "out"):
            _replace_folder(store, module.folder(item.name), files)
        return done
    if item.also != (item.name,):  # the same text under each name
        (body,) = files.values()
        files = {f"{name}.txt": body for name in item.also}
    with writing(store, "out"):
        for key, body in files.items():
            store.put(key, body)
    return done


def _convert_together(
    store: ObjectStore, items: Sequence[_Item], config: ConvertConfig, stride: int
) -> list[Converted]:
    """Write one file about all videos, of which one at a time is in memory."""
    done: list[Converted] = []

    def videos() -> Iterator[VideoTracks]:
        for item in in_turn(items):
            video, result = _read(item, config, stride)
            done.append(result)
            yield video

    module = config.kind.load()
    with tempfile.TemporaryDirectory(prefix="jde-convert-") as folder:
        path = module.write_dataset(videos(), Path(folder))
        with writing(store, "out"):
            store.put(module.FILE, path)
    return done


def _replace_folder(store: ObjectStore, prefix: str, files: Mapping[str, bytes]) -> None:
    """Make files the whole content of a folder, which may have thousands.

    On a disk a folder is written beside it and renamed. In a bucket the first file is put last.
    """
    if "://" in store.uri:
        for key in set(store.list(prefix)) - files.keys():
            store.delete(key)
        for key in reversed(list(files)):
            store.put(key, files[key])
        return
    target = Path(store.uri, prefix)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, _TEMPORARY)
    with tempfile.TemporaryDirectory(prefix=f"{_TEMPORARY}{mark()}-", dir=target.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        new.mkdir()
        for key, body in files.items():
            (new / key.removeprefix(prefix)).write_bytes(body)
        if target.exists():
            os.rename(target, old)
        os.rename(new, target)


def _put_zip(store: ObjectStore, names: Sequence[str]) -> None:
    """A zip with the text of all videos and nothing else; equal runs give equal bytes."""
    with tempfile.TemporaryDirectory(prefix="jde-convert-") as folder:
        path = Path(folder, ZIP_KEY)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in sorted(names):
                entry = zipfile.ZipInfo(f"{name}.txt", _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with store.open(entry.filename) as text, packed.open(entry, "w") as place:
                    shutil.copyfileobj(text, place)
        store.put(ZIP_KEY, path)
