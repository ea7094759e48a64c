"""Counts the tracks of many videos into a folder of tables and a page.

A group of files becomes one part in `OUT2/parts/`, created once and named after what went into it:
files, places and settings. A second run counts only groups that have no part, and writes the tables
from all parts. Events of other places, or of files that have changed, have other parts.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jde_ray.models.structures import IntArray
from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.counting.buckets import By
from jde_ray.pipelines.counting.counts import INSIDE, build_series
from jde_ray.pipelines.counting.heads import Failure
from jde_ray.pipelines.counting.page import write_page
from jde_ray.pipelines.counting.parts import EVENT_SCHEMA, Part
from jde_ray.pipelines.counting.plan import (
    PARTS_PREFIX,
    PREVIEW_PREFIX,
    Group,
    Plan,
    is_part,
    make_plan,
)
from jde_ray.pipelines.counting.result import Counted
from jde_ray.pipelines.counting.tables import write_tables
from jde_ray.pipelines.counting.videos import CountConfig, count_heads
from jde_ray.pipelines.names import listed
from jde_ray.pipelines.output.layout import RUN_KEY, TRACKS_PREFIX
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.sources.discovery import Sources
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store, real_place, writing

logger = logging.getLogger(__name__)

COUNT_KEY = "count.json"
_TRACKS = f"/{TRACKS_PREFIX}"


def count(
    source: str | Path,
    out: str,
    config: CountConfig,
    *,
    by: By = "hour",
    zone: tzinfo = UTC,
    address: str | None = None,
    preview: Sources | None = None,
) -> Counted:
    """Count all tracks of a run.

    Args:
        source: OUT of the run (also `s3://`), a folder of its Parquet files, or one of them.
        out: Folder or `s3://` prefix for the tables.
        config: Places and settings.
        by: Length of the buckets of `counts.parquet`.
        zone: Hours and days begin in this time zone.
        address: Address of the Ray cluster; None for this process if there is little to do.
        preview: Videos of the run, to draw places on a frame of each camera; None for no pictures.

    Raises:
        ValueError: If there are no tracks, or a place does not fit.
        OSError: If a store cannot be used.
        RunError: If there is no Ray at the address, or no video to draw on.
    """
    plan = make_plan(str(source), config)
    store = open_store(out)
    if real_place(store.uri) in _places_of_tracks(str(source), plan):
        raise ValueError(f"to: {out} is where the tracks are; choose another folder")
    if store.exists(RUN_KEY):
        raise ValueError(f"to: {out} is OUT of a run; choose another folder")
    if not store.exists(COUNT_KEY) and not all(map(_is_ours, store.list(""))):
        raise ValueError(f"to: {out} is not empty; choose another folder")
    if shared := _of_several_folders(plan):
        logger.warning(
            "camera%s %s: the run recorded no cameras, and videos of one name in several folders "
            "are counted as one camera; `jde track --source-pattern` tells them apart",
            "s" * (len(shared) > 1), listed(shared, most=3),
        )  # fmt: skip
    images: dict[str, str] = {}
    if preview is not None:
        from jde_ray.pipelines.counting.preview import draw_previews  # loads OpenCV and PyAV

        images = draw_previews(preview, plan, store)
    existing = {key for key in store.list(PARTS_PREFIX) if is_part(key)}
    todo = [group for group in plan.groups if group.key not in existing]
    work = partial(_count_group, out=store.uri, config=config)
    done = dict(zip([group.key for group in todo], for_each(work, todo, address), strict=True))
    parts = [done.get(group.key) or _stored(store, group) for group in plan.groups]
    facts = [one for part in parts for one in part.videos]
    videos = [one for one in facts if not one.error]
    failures = [*plan.failures, *(Failure(one.file, one.error) for one in facts if one.error)]
    events = pa.concat_tables([EVENT_SCHEMA.empty_table(), *(part.events for part in parts)])
    series, overlaps = build_series(events, videos, plan.places, by, zone)
    if overlaps:
        most = max(overlaps, key=lambda one: one.seconds)
        logger.warning(
            "recordings of %d camera%s overlap (%s: %.0f s are covered by more than one); "
            "people count in each of them",
            len(overlaps), "s" * (len(overlaps) > 1), most.camera, most.seconds,
        )  # fmt: skip
    counted = Counted(
        store.uri, series, events, videos, failures, overlaps, plan.places, plan.sizes,
        _heat(parts), sum(len(group.heads) for group in todo),
    )  # fmt: skip
    record = _record(counted, str(source), config, by, zone)
    if preview is None and _places_before(store) != record["places"]:
        for key in list(store.list(PREVIEW_PREFIX)):
            store.delete(key)  # it shows where the places were
    store.put(COUNT_KEY, f"{json.dumps(record, indent=1)}\n".encode())  # first: it marks the folder
    write_tables(store, events, series)
    write_page(counted, str(source), by, zone, images)
    for key in existing - {group.key for group in plan.groups}:
        store.delete(key)  # of other places or settings, or of files that have changed
    return counted


def _places_of_tracks(source: str, plan: Plan) -> set[str]:
    """The folder with the files of tracks, the run's above it, and the source."""
    files = [head.file for group in plan.groups for head in group.heads]
    files += [one.file for one in plan.failures]
    folders = {real_place(file.rpartition("/")[0]) for file in files}
    above = {folder.rpartition("/")[0] for folder in folders if f"{folder}/".endswith(_TRACKS)}
    return {real_place(open_store(source).uri)} | folders | above


def _is_ours(key: str) -> bool:
    """Whether a call that did not come to its end may have written this object."""
    return is_part(key) or key.startswith(PREVIEW_PREFIX)


def _of_several_folders(plan: Plan) -> list[str]:
    """Cameras that are only the name of files, of which there are some in several folders."""
    origins = {head.origin for group in plan.groups for head in group.heads}
    places = {(one.camera, one.folder) for one in origins if one.folder}
    numbers = Counter(camera for camera, _ in places)
    return sorted(camera for camera, number in numbers.items() if number > 1)


def _count_group(group: Group, *, out: str, config: CountConfig) -> Part | None:
    """Count the files of a group into its part; the part itself if it may not be kept."""
    part, is_lasting = count_heads(group.heads, config)
    if not is_lasting:
        return part
    store = open_store(out)
    with writing(store, "to"):
        store.put_if_absent(group.key, part.to_bytes())
    return None


def _stored(store: ObjectStore, group: Group) -> Part:
    try:
        return Part.from_bytes(store.get(group.key))
    except ValueError as error:
        text = f"{store.uri}/{group.key}: {error}; remove it to count its videos again"
        raise ValueError(text) from None


def _heat(parts: Sequence[Part]) -> dict[str, IntArray]:
    heat: dict[str, IntArray] = {}
    for part in parts:
        for camera, cells in part.heat.items():
            heat[camera] = heat[camera] + cells if camera in heat else cells
    return heat


def _places_before(store: ObjectStore) -> Any:
    """The places of the call before; None if there was none, or its record cannot be read."""
    try:
        return json.loads(store.get(COUNT_KEY))["places"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _record(
    counted: Counted, source: str, config: CountConfig, by: By, zone: tzinfo
) -> dict[str, Any]:
    """What `count.json` holds: settings and totals."""
    totals = [
        {
            "camera": one.camera,
            "place": one.place,
            "direction": one.direction,
            "count": int(np.asarray(one.count).sum()),
        }
        for one in counted.series
        if one.kind != INSIDE  # someone who stays is counted in each bucket
    ]
    places = {
        camera: [*map(asdict, own.places.lines), *map(asdict, own.places.zones)]
        for camera, own in sorted(counted.places.items())
    }
    return {
        "version": VERSION,
        "tracks": source,
        "by": by,
        "timezone": str(zone),
        "places": json.loads(json.dumps(places)),  # in pixels; as they will be read again
        "min_visit_s": config.min_visit_s,
        "join_s": config.join_s,
        "videos": len(counted.videos),
        "rows": sum(one.num_rows for one in counted.videos),
        "events": counted.events.num_rows,
        "failed": [vars(one) for one in counted.failures],
        "overlaps": [vars(one) for one in counted.overlaps],
        "totals": totals,
    }
