"""Refine the tracks of finished videos offline: join, filter, fill and smooth them.

A run's own rows never change: refined rows go to a separate folder, where each video's file is
created once, as in a run. docs/decisions/0009-refinement-is-a-verb.md explains why a run does not
refine by itself, docs/decisions/0015-offline-linking.md how tracks are cut and joined.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.models.tracking.postprocessing.linking import link
from jde_ray.models.tracking.postprocessing.smoothing import smooth
from jde_ray.models.tracking.postprocessing.trajectories import (
    Trajectories,
    drop_short,
    interpolate,
)
from jde_ray.pipelines.formats.file_facts import FRAME_RATE, FileFacts, facts_of_refined
from jde_ray.pipelines.formats.mot import format_results
from jde_ray.pipelines.formats.parquet_file import ParquetFile, fingerprint, open_parquet
from jde_ray.pipelines.formats.tracks import (
    ROW_GROUP_ROWS,
    added_columns,
    map_embeddings,
    read_columns,
    read_scored_tracks,
    replace_rows,
    schema_of_refined,
)
from jde_ray.pipelines.output.layout import REFINED_PREFIX, RUN_KEY, TRACKS_PREFIX
from jde_ray.pipelines.output.run_record import parse_record
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.sources.saved_tracks import list_tracks, local_file, record_of, stride_of
from jde_ray.pipelines.storage.base import Body, ObjectStore
from jde_ray.pipelines.storage.stores import open_store


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Steps of a refinement, in this order; each is off by default.

    Attributes:
        relink: How to cut and join tracks; None leaves them as they are.
        min_track_length: Leave out tracks seen in fewer frames.
        interpolate: Fill gaps of up to this many frames.
        smooth: Smooth boxes over all frames of their track.

    Raises:
        ValueError: If a value is out of range.
    """

    relink: LinkSettings | None = None
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


# the steps that pay on sequences they were not chosen on (docs/decisions/0015-offline-linking.md)
USUAL = RefineConfig(relink=LinkSettings(), interpolate=20, smooth=True)


def refine_tracks(
    tracks: Trajectories,
    config: RefineConfig,
    frames_per_second: float,
    stride: int = 1,
    embeddings: FloatArray | None = None,
) -> Trajectories:
    """Apply the steps of `config` in their order.

    Args:
        tracks: All tracks of a video.
        config: Steps to apply.
        frames_per_second: Nominal rate of the video; limits in seconds depend on it.
        stride: The run processed every n-th frame.
        embeddings: `(N, D)` appearance vectors by `tracks.source`, if there are any.
    """
    if config.relink is not None:
        tracks = link(tracks, config.relink, frames_per_second, stride, embeddings)
    tracks = drop_short(tracks, config.min_track_length)
    if config.interpolate:
        tracks = interpolate(tracks, config.interpolate, stride=stride)
    return smooth(tracks, stride=stride) if config.smooth else tracks


@dataclass(frozen=True)
class Refined:
    """Result for one video.

    Attributes:
        is_new: False if its file existed already.
        by_appearance: Whether the file has embeddings to join tracks by.
        emptied: Columns that were added to the file after the run; they are null in all rows, since
            their values for new rows are unknown.
    """

    name: str
    rows_before: int
    rows_after: int
    tracks_before: int
    tracks_after: int
    is_new: bool
    by_appearance: bool = False
    emptied: tuple[str, ...] = ()


def refined_place(out: str) -> str:
    """Where `jde track --refine` puts the refined tracks of a run."""
    return f"{out.rstrip('/')}/{REFINED_PREFIX}".rstrip("/")


def refine(
    source: str | Path, out: str, config: RefineConfig, address: str | None = None
) -> list[Refined]:
    """Refine all tracks of a run, or MOT text files, into a separate folder.

    Videos that were refined before are left alone, unless their tracks have changed since.

    Args:
        source: OUT of the run (also `s3://`), a folder of its Parquet files or of MOT text, or one
            such file.
        out: Folder or `s3://` prefix for `tracks/` and a `run.json` that records the steps.
        config: Steps to apply.
        address: Address of the Ray cluster; None for this process if there are few videos.

    Returns:
        One result per video, by name.

    Raises:
        ValueError: If there are no tracks, a file cannot be read, or `out` holds other tracks.
        OSError: If a store cannot be used.
        RunError: If there is no Ray at the address.
    """
    source = str(source)
    files = list_tracks(source)
    record = record_of(source)
    store = open_store(out)
    if _is_in(f"{store.uri}/{TRACKS_PREFIX}", files[0]):
        raise ValueError(f"out: {out} is where the tracks are; choose another folder")
    _begin(store, record, source, config)
    work = partial(_refine_file, out=store.uri, config=config, stride=stride_of(record))
    return for_each(work, files, address)


def check_refined(out: str, config: RefineConfig) -> None:
    """Refuse a folder of tracks that were refined by other steps.

    Raises:
        ValueError: If it holds such tracks, or its `run.json` cannot be read.
        OSError: If its store cannot be used.
    """
    store = open_store(out)
    if store.exists(RUN_KEY) and _existing_record(store)["config"].get("refined") != _plain(config):
        raise ValueError(
            f"out: {store.uri} holds tracks refined by other steps; remove it to refine them again"
        )


def _plain(config: RefineConfig) -> Any:
    return json.loads(json.dumps(config.to_dict()))


def _is_in(folder: str, file: str) -> bool:
    if "://" in folder or "://" in file:
        return file.startswith(folder)
    return Path(file).resolve().parent == Path(folder).resolve()


def _begin(store: ObjectStore, record: dict[str, Any], source: str, config: RefineConfig) -> None:
    """Create `run.json`, or check the existing one.

    It is the run's `run.json` with `refined` added to the configuration, so that `jde track`
    refuses this folder.
    """
    refined = config.to_dict()
    text = json.dumps([record.get("config_hash"), refined], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    settings = {**record.get("config", {}), "refined": refined}
    values = {**record, "config": settings, "config_hash": digest, "refined_from": source}
    content = f"{json.dumps(values, indent=1, sort_keys=True)}\n".encode()
    if store.put_if_absent(RUN_KEY, content):
        return
    if _existing_record(store)["config_hash"] != digest:
        raise ValueError(f"out: {store.uri} holds tracks of another run or setting; choose another")


def _existing_record(store: ObjectStore) -> dict[str, Any]:
    try:
        return parse_record(store.get(RUN_KEY))
    except ValueError as error:
        raise ValueError(
            f"out: {store.uri}/run.json cannot be read ({error}); choose another folder"
        ) from error


def _refine_file(file: str, *, out: str, config: RefineConfig, stride: int) -> Refined:
    store, key = open_store(out), TRACKS_PREFIX + file.rpartition("/")[2]
    with (
        tempfile.TemporaryDirectory(prefix="jde-refine-") as folder,
        local_file(file, Path(folder)) as path,
    ):
        rows, scores = read_scored_tracks(path)
        before = Trajectories.sort(rows.frame, rows.track_id, rows.tlbr, scores)
        parquet = pq.ParquetFile(path) if path.suffix == ".parquet" else None
        after = _refined_before(store, key, parquet)
        is_new, embeddings = after is None, None
        if after is None:
            metadata = {} if parquet is None else dict(parquet.metadata.metadata or {})
            rate = _rate(path, metadata)
            embeddings = None if parquet is None else map_embeddings(parquet, Path(folder))
            after = refine_tracks(before, config, rate, stride, embeddings)
            body: Body = format_results(_boxes(after), after.score).encode()
            if parquet is not None:
                body = _encode(parquet, after, embeddings, config, Path(folder, "refined.parquet"))
            if not store.put_if_absent(key, body):
                store.put(key, body)  # the one that is there is of tracks that have changed
        return Refined(
            path.stem,
            len(before),
            len(after),
            len(np.unique(before.track_id)),
            len(np.unique(after.track_id)),
            is_new,
            embeddings is not None,
            () if parquet is None else added_columns(parquet.schema_arrow),
        )


def _boxes(tracks: Trajectories) -> BoxRows:
    return BoxRows(tracks.frame, tracks.track_id, tracks.tlbr)


def _refined_before(
    store: ObjectStore, key: str, source: pq.ParquetFile | None
) -> Trajectories | None:
    """The refined rows of a video; None if there are none, or its tracks have changed since."""
    if not store.exists(key):
        return None
    with tempfile.TemporaryDirectory(prefix="jde-refine-") as folder:
        if source is not None:
            try:
                file = open_parquet(store, key)
            except pa.ArrowException:
                return None  # not a whole file; it is written anew
            if FileFacts.of(file.metadata).refined_of != fingerprint(source.metadata):
                return None
        path = Path(folder, key.rpartition("/")[2])
        path.write_bytes(store.get(key))
        rows, scores = read_scored_tracks(path)
    return Trajectories.sort(rows.frame, rows.track_id, rows.tlbr, scores)


def _encode(
    source: pq.ParquetFile,
    after: Trajectories,
    embeddings: FloatArray | None,
    config: RefineConfig,
    path: Path,
) -> Body:
    """A file of `tracks/` with the columns of `source` and the refined rows."""
    schema = source.schema_arrow.remove_metadata()
    file = ParquetFile(path, schema_of_refined(schema), ROW_GROUP_ROWS, has_parts=False)
    for part in replace_rows(read_columns(source), schema, after, embeddings):
        file.append(part)
    metadata, number = dict(source.metadata.metadata or {}), len(np.unique(after.track_id))
    return file.close(
        facts_of_refined(metadata, number, config.to_dict(), fingerprint(source.metadata))
    )


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
