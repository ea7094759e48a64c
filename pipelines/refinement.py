"""Refine the tracks of finished videos offline: join, filter, fill and smooth them.

A run's own rows never change: refined rows go to a separate folder, where each video's file is
created once, as in a run. docs/decisions/0009-refinement-is-a-verb.md explains why a run does not
refine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.tracking.postprocessing.relinking import RelinkLimits, relink
from jde_ray.models.tracking.postprocessing.smoothing import smooth
from jde_ray.models.tracking.postprocessing.trajectories import (
    Trajectories,
    drop_short,
    interpolate,
)
from jde_ray.pipelines.formats.file_facts import FRAME_RATE, FileFacts, facts_of_refined
from jde_ray.pipelines.formats.mot import format_results
from jde_ray.pipelines.formats.parquet_file import encode_parquet
from jde_ray.pipelines.formats.tracks import (
    ROW_GROUP_ROWS,
    added_columns,
    has_embeddings,
    read_embeddings,
    read_scored_tracks,
    replace_rows,
)
from jde_ray.pipelines.output.layout import RUN_KEY, TRACKS_PREFIX
from jde_ray.pipelines.output.run_record import parse_record
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.sources.saved_tracks import find_tracks
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Steps of a refinement, in this order; each is off by default.

    Attributes:
        relink: Limits for joining broken tracks by embedding; None joins none.
        min_track_length: Leave out tracks seen in fewer frames.
        interpolate: Fill gaps of up to this many frames.
        smooth: Smooth boxes over all frames of their track.

    Raises:
        ValueError: If a value is out of range.
    """

    relink: RelinkLimits | None = None
    min_track_length: int = 1
    interpolate: int = 0
    smooth: bool = False

    def __post_init__(self) -> None:
        for name, value, low in (
            ("min-track-length", self.min_track_length, 1),
            ("interpolate", self.interpolate, 0),
        ):
            if not low <= value <= 1_000_000:
                raise ValueError(f"{name}: got {value}, expected {low} to 1000000")

    @property
    def does_nothing(self) -> bool:
        """Whether all steps are off."""
        return self == RefineConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in `run.json`."""
        values: dict[str, Any] = asdict(self)
        return values


def refine_tracks(
    tracks: Trajectories, config: RefineConfig, frames_per_second: float, stride: int = 1
) -> Trajectories:
    """Apply the steps of `config` in their order.

    Args:
        tracks: All tracks of a video.
        config: Steps to apply.
        frames_per_second: Nominal rate of the video; limits in seconds depend on it.
        stride: The run processed every n-th frame.
    """
    if config.relink is not None:
        tracks = relink(tracks, config.relink, frames_per_second)
    tracks = drop_short(tracks, config.min_track_length)
    if config.interpolate:
        tracks = interpolate(tracks, config.interpolate, stride=stride)
    return smooth(tracks, stride=stride) if config.smooth else tracks


@dataclass(frozen=True)
class Refined:
    """Result for one video.

    Attributes:
        is_new: False if its file existed already.
        emptied: Columns that were added to the file after the run; they are null in all rows, since
            their values for new rows are unknown.
    """

    name: str
    rows_before: int
    rows_after: int
    tracks_before: int
    tracks_after: int
    is_new: bool
    emptied: tuple[str, ...] = ()


def refine(
    source: Path, out: str, config: RefineConfig, address: str | None = None
) -> list[Refined]:
    """Refine all tracks of a run, or MOT text files, into a separate folder.

    Args:
        source: OUT of the run, a folder of its Parquet files or of MOT text, or one such file.
        out: Folder or `s3://` prefix for `tracks/` and a `run.json` that records the steps.
        config: Steps to apply.
        address: Address of the Ray cluster; None for this process if there are few videos.

    Returns:
        One result per video, by name.

    Raises:
        ValueError: If there are no tracks, a file cannot be read or lacks the embeddings for
            relinking, or `out` holds other tracks.
        RunError: If there is no Ray at the address.
    """
    files = find_tracks(source)
    record = _source_record(source)
    store = open_store(out)
    if config.relink is not None:
        _check_embeddings(list(files.values()))
    if (source / TRACKS_PREFIX).resolve() == Path(store.uri, TRACKS_PREFIX).resolve():
        raise ValueError(f"out: {out} is where the tracks are; choose another folder")
    _begin(store, record, source, config)
    stride = record.get("config", {}).get("vid_stride", 1)
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"run.json: vid_stride: got {stride!r}, expected a number from 1")
    work = partial(_refine_file, out=store.uri, config=config, stride=stride)
    return for_each(work, list(files.values()), address)


def _check_embeddings(files: list[Path]) -> None:
    """Refuse tracks that cannot be relinked, before anything is written.

    Raises:
        ValueError: If a file has no embeddings or is not Parquet.
    """
    for path in files:
        schema = pa.schema([])
        if path.suffix == ".parquet":
            try:
                schema = pq.read_schema(path)
            except (pa.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(f"{path}: not a readable Parquet file ({reason})") from error
        if not has_embeddings(schema):
            raise ValueError(f"{path}: no embeddings to relink by; track with --save-embeddings")


def _source_record(source: Path) -> dict[str, Any]:
    """`run.json` of the run that wrote the tracks, empty if there is none."""
    for folder in (source, source.parent, source.parent.parent):
        if (folder / RUN_KEY).is_file():
            try:
                return parse_record((folder / RUN_KEY).read_bytes())
            except ValueError as error:
                raise ValueError(
                    f"{folder / RUN_KEY} cannot be read ({error}); put back the one that the"
                    " run wrote, or refine its tracks/ from a folder without it"
                ) from error
    return {}


def _begin(store: ObjectStore, record: dict[str, Any], source: Path, config: RefineConfig) -> None:
    """Create `run.json`, or check the existing one.

    It is the run's `run.json` with `refined` added to the configuration, so that `jde track`
    refuses this folder.
    """
    refined = config.to_dict()
    text = json.dumps([record.get("config_hash"), refined], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    settings = {**record.get("config", {}), "refined": refined}
    values = {**record, "config": settings, "config_hash": digest, "refined_from": str(source)}
    content = f"{json.dumps(values, indent=1, sort_keys=True)}\n".encode()
    if store.put_if_absent(RUN_KEY, content):
        return
    try:
        before = parse_record(store.get(RUN_KEY))
    except ValueError as error:
        raise ValueError(
            f"out: {store.uri}/run.json cannot be read ({error}); choose another folder"
        ) from error
    if before["config_hash"] != digest:
        raise ValueError(f"out: {store.uri} holds tracks of another run or setting; choose another")


def _refine_file(path: Path, *, out: str, config: RefineConfig, stride: int) -> Refined:
    is_text = path.suffix != ".parquet"
    rows, scores = read_scored_tracks(path)
    table = None if is_text else pq.ParquetFile(path).read()
    vectors = None if table is None else read_embeddings(table)
    before = Trajectories.sort(rows.frame, rows.track_id, rows.tlbr, scores, vectors)
    metadata = {} if is_text else dict(pq.read_metadata(path).metadata or {})
    rate = _rate(path, metadata)
    after = refine_tracks(before, config, rate, stride)
    if table is None:
        flat = BoxRows(after.frame, after.track_id, after.tlbr)
        body = format_results(flat, after.score).encode()
    else:
        body = _parquet(table, after, metadata, config)
    is_new = open_store(out).put_if_absent(f"{TRACKS_PREFIX}{path.name}", body)
    emptied = () if table is None else added_columns(table.schema)
    ids = (len(np.unique(before.track_id)), len(np.unique(after.track_id)))
    return Refined(path.stem, len(before), len(after), *ids, is_new, emptied)


def _rate(path: Path, metadata: dict[bytes, bytes]) -> float:
    try:
        facts = FileFacts(metadata)
        rate = facts.frames_per_second if facts.has_frame_rate else 30.0
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        got = metadata[FRAME_RATE]
        raise ValueError(f"{path}: frames_per_second: got {got!r}, expected a number above 0")
    return rate


def _parquet(
    table: pa.Table, after: Trajectories, metadata: dict[bytes, bytes], config: RefineConfig
) -> bytes:
    """A file of `tracks/` with the columns of `table` and the refined rows."""
    kept = facts_of_refined(metadata, len(np.unique(after.track_id)), config.to_dict())
    return encode_parquet(replace_rows(table, after), ROW_GROUP_ROWS, kept)
