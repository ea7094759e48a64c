"""Names of the MOTChallenge text in OUT, as the server and TrackEval want them: `mot/NAME.txt`.

While a run writes, a text has the id of its video, `mot/<video_id>.txt`: no process knows all
names. At the end of the run those whose name no other video of OUT has get their plain names. A
text whose name is taken later gets its id back.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from jde_ray.pipelines.formats.parquet_file import is_damage, open_parquet
from jde_ray.pipelines.formats.tracks import TrackRows
from jde_ray.pipelines.names import plain_names, sequence_name
from jde_ray.pipelines.output.layout import (
    MOT_PREFIX,
    TRACKS_PREFIX,
    list_ids,
    mot_key,
    tracks_key,
)
from jde_ray.pipelines.storage.base import ObjectStore

logger = logging.getLogger(__name__)

_WORKERS = 16  # threads that rename texts


def name_texts(store: ObjectStore) -> None:
    """Give every text in OUT its name; a second call changes nothing."""
    written = set(store.list(MOT_PREFIX))
    if not written:
        return
    names = plain_names(list_ids(store, TRACKS_PREFIX))
    clashing = {video_id for video_id, name in names.items() if name == video_id}
    taken = {mot_key(name) for name in names.values()}

    def name_one(video_id: str) -> None:
        own, plain = mot_key(video_id), mot_key(sequence_name(video_id))
        if video_id in clashing:
            # it had its plain name while it was alone; whose the text is, its tracks say
            if own != plain and own not in written and plain in written:
                write_text(store, video_id)
        elif own in written and own != plain:
            _rename(store, own, plain)

    with ThreadPoolExecutor(_WORKERS) as workers:
        list(workers.map(name_one, names))
        left = {mot_key(sequence_name(video_id)) for video_id in clashing} & written - taken
        list(workers.map(store.delete, left))


def lacking_text(store: ObjectStore, video_ids: Collection[str]) -> list[str]:
    """Those of the committed videos that have no text under either name."""
    written = set(store.list(MOT_PREFIX))
    committed = list_ids(store, TRACKS_PREFIX)
    names = plain_names(committed)
    there = {own for own, name in names.items() if written & {mot_key(own), mot_key(name)}}
    return [video_id for video_id in video_ids if video_id in committed - there]


def write_text(store: ObjectStore, video_id: str) -> None:
    """Write the text of a committed video under its id, from its tracks."""
    key = tracks_key(video_id)
    try:
        text = TrackRows.from_table(open_parquet(store, key).read()).to_mot()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        is_lost = is_damage(error) or isinstance(error, FileNotFoundError)
        if isinstance(error, OSError) and not is_lost:
            raise  # of the store
        # the end of the run reports it
        logger.info("%s cannot be read: %s", key, error)
        return
    store.put(mot_key(video_id), text.encode())


def plain_text_key(store: ObjectStore, video_id: str) -> str | None:
    """Key of a video's text under its plain name; None if there is none, or it is another's."""
    name = sequence_name(video_id)
    if name == video_id or not store.exists(mot_key(name)):
        return None
    ids = list_ids(store, TRACKS_PREFIX, name)
    others = {one for one in ids if sequence_name(one) == name} - {video_id}
    return None if others else mot_key(name)


def _rename(store: ObjectStore, old: str, new: str) -> None:
    try:
        body = store.get(old)
    except FileNotFoundError:  # another partition did it
        return
    store.put(new, body)
    store.delete(old)
