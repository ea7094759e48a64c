"""Refine the tracks of finished videos offline: join, filter, fill and smooth them.

A run's own rows never change: refined rows go to a separate folder, where each video's file is
created once, as in a run. docs/decisions/0009-refinement-is-a-verb.md explains why a run does not
refine by itself, docs/decisions/0015-offline-linking.md how tracks are cut and joined.
"""

from __future__ import annotations

import errno
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.postprocessing.glimpses import Embeddings
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.errors import one_line
from jde_ray.pipelines.formats.file_facts import FRAME_RATE, FileFacts, facts_of_refined
from jde_ray.pipelines.formats.mot import format_results
from jde_ray.pipelines.formats.parquet_file import ParquetFile, fingerprint
from jde_ray.pipelines.formats.tracks import (
    ROW_GROUP_ROWS,
    added_columns,
    map_embeddings,
    read_columns,
    read_scored_tracks,
    read_uri,
    replace_rows,
    schema_of_refined,
)
from jde_ray.pipelines.output.layout import OWN_PREFIXES, REFINED_PREFIX, TRACKS_PREFIX
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.refinement.records import begin_record
from jde_ray.pipelines.refinement.second_look import SecondLook, look_at
from jde_ray.pipelines.refinement.steps import RefineConfig, refine_tracks
from jde_ray.pipelines.sources.saved_tracks import list_tracks, local_file, record_of, stride_of
from jde_ray.pipelines.storage.base import Body
from jde_ray.pipelines.storage.stores import open_store, real_place, writing


@dataclass(frozen=True)
class Refined:
    """Result for one video.

    Attributes:
        is_new: False if its file was there already, with these rows.
        num_crops: Crops that a second look took.
        by_appearance: Whether the file has embeddings to join tracks by.
        emptied: Columns that were added to the file after the run; they are null in all rows, since
            their values for new rows are unknown.
        error: Why it could not be refined, in one line that names the file; empty if it was.
    """

    name: str
    rows_before: int
    rows_after: int
    tracks_before: int
    tracks_after: int
    is_new: bool
    by_appearance: bool = False
    num_crops: int = 0
    emptied: tuple[str, ...] = ()
    error: str = ""


def refined_place(out: str) -> str:
    """Where `jde track --refine` puts the refined tracks of a run."""
    return f"{out.rstrip('/')}/{REFINED_PREFIX}".rstrip("/")


def refine(
    source: str | Path,
    out: str,
    config: RefineConfig,
    address: str | None = None,
    second_look: SecondLook | None = None,
) -> list[Refined]:
    """Refine all tracks of a run, or MOT text files, into a separate folder.

    Videos that were refined before are left alone, unless their tracks have changed since. MOT text
    is refined in every call, and written if the result is another one.

    Args:
        source: OUT of the run (also `s3://`), a folder of its Parquet files or of MOT text, or one
            such file.
        out: Folder or `s3://` prefix for `tracks/` and a `run.json` that records the steps.
        config: Steps to apply.
        address: Address of the Ray cluster; None for this process if there are few videos.
        second_look: The network of `config.reid_sha256`, and the videos; None for none.

    Returns:
        One result per video, by name, also of those whose file cannot be refined.

    Raises:
        ValueError: If there are no tracks, or `out` holds something else.
        OSError: If a store cannot be used.
        RunError: If there is no Ray at the address.
    """
    source = str(source)
    files = list_tracks(source)
    record = record_of(source)
    store = open_store(out)
    _check_place(store.uri, files[0])
    with writing(store, "out"):
        begin_record(store, record, source, config)
    stride = stride_of(record)
    work = partial(
        _refine_file, out=store.uri, config=config, stride=stride, second_look=second_look
    )
    return for_each(work, files, address)


def _check_place(out: str, file: str) -> None:
    """Refuse a place where readers of the run would take refined tracks for its own."""
    folder, place = real_place(file.rpartition("/")[0]), real_place(out)
    run = folder.removesuffix(f"/{TRACKS_PREFIX[:-1]}")
    if place in (folder, run):
        raise ValueError(f"out: {out} is where the tracks are; choose another folder")
    inside = f"{place}/".removeprefix(f"{run}/")
    is_below_refined = inside.startswith(REFINED_PREFIX) and inside != REFINED_PREFIX
    if is_below_refined or inside.startswith(OWN_PREFIXES):
        raise ValueError(
            f"out: {out} is a part of {run}, expected {refined_place(run)} or a folder of its own"
        )


def _refine_file(
    file: str, *, out: str, config: RefineConfig, stride: int, second_look: SecondLook | None
) -> Refined:
    store, key = open_store(out), TRACKS_PREFIX + file.rpartition("/")[2]
    kept = store.get(key) if store.exists(key) else None
    with (
        tempfile.TemporaryDirectory(prefix="jde-refine-") as folder,
        local_file(file, Path(folder)) as path,
    ):
        try:
            done, body = _refine(path, kept, Path(folder), config, stride, second_look)
        except (OSError, ValueError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise  # of this machine
            return Refined(path.stem, 0, 0, 0, 0, is_new=False, error=_reason(file, path, error))
        if body is not None and not store.put_if_absent(key, body):
            store.put(key, body)  # the one that is there is of tracks that have changed
        return done


def _reason(file: str, path: Path, error: Exception) -> str:
    """Why a file could not be refined: one line with its address, not that of a local copy."""
    text = one_line(str(error).replace(str(path), file))
    if isinstance(error, OSError | pa.ArrowException | UnicodeError):
        kind = "Parquet" if path.suffix == ".parquet" else "text"
        return f"{file}: not a readable {kind} file ({text})"
    return text if file in text else f"{file}: {text}"


def _refine(
    path: Path,
    kept: bytes | None,
    folder: Path,
    config: RefineConfig,
    stride: int,
    second_look: SecondLook | None,
) -> tuple[Refined, Body | None]:
    """Refine a local file; the content of its refined one, None if that is there already."""
    rows, scores = read_scored_tracks(path)
    before = Trajectories.sort(rows.frame, rows.track_id, rows.tlbr, scores)
    parquet = pq.ParquetFile(path) if path.suffix == ".parquet" else None
    after = None if parquet is None or kept is None else _refined_before(kept, parquet)
    body: Body | None = None
    num_crops = 0
    looks: Embeddings | None = None
    if after is None:
        metadata = {} if parquet is None else dict(parquet.metadata.metadata or {})
        rate = _rate(path, metadata)
        embeddings = None if parquet is None else map_embeddings(parquet, folder)
        looks = embeddings
        if second_look is not None and len(before):
            looks, num_crops = look_at(
                before,
                second_look.video_of(path, "" if parquet is None else read_uri(parquet)),
                second_look.load(),
                folder,
                stride=stride,
                size=FileFacts(metadata).size if b"width" in metadata else None,
                own=embeddings,
            )
        after = refine_tracks(before, config, rate, stride, looks)
        _check_finite(path, before, after)
        body = format_results(_boxes(after), after.score).encode()
        if parquet is not None:
            body = _encode(parquet, after, embeddings, config, folder / "refined.parquet")
        elif body == kept:  # text cannot say which text it was refined from
            body = None
    done = Refined(
        path.stem,
        len(before),
        len(after),
        len(np.unique(before.track_id)),
        len(np.unique(after.track_id)),
        body is not None,
        looks is not None,
        num_crops,
        () if parquet is None else added_columns(parquet.schema_arrow),
    )
    return done, body


def _check_finite(path: Path, before: Trajectories, after: Trajectories) -> None:
    """Refuse refined rows with values that no reader would take."""
    bad = np.flatnonzero(~np.isfinite(after.tlbr).all(axis=1) | ~np.isfinite(after.score))
    if len(bad):
        most = np.abs(before.tlbr).max()
        raise ValueError(
            f"{path}: track {after.track_id[bad[0]]}: got NaN or Inf from coordinates of up to"
            f" {most:g}, expected smaller ones"
        )


def _boxes(tracks: Trajectories) -> BoxRows:
    return BoxRows(tracks.frame, tracks.track_id, tracks.tlbr)


def _refined_before(kept: bytes, source: pq.ParquetFile) -> Trajectories | None:
    """The refined rows of a video; None if its tracks have changed since, or it is no whole file.

    Args:
        kept: Content of its refined file.
        source: File of its tracks.
    """
    with tempfile.TemporaryDirectory(prefix="jde-refine-") as folder:
        path = Path(folder, "kept.parquet")
        path.write_bytes(kept)
        try:
            facts = FileFacts.of(pq.ParquetFile(path).metadata)
            if facts.refined_of != fingerprint(source.metadata):
                return None
            rows, scores = read_scored_tracks(path)
        except (pa.ArrowException, OSError, ValueError):
            return None  # it is written anew
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
