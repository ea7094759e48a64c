"""What a count works on: the files, their ends, and groups of them. Works without Ray."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from jde_ray.pipelines.counting.heads import Failure, Head, read_head
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import CameraPlaces
from jde_ray.pipelines.sources.saved_tracks import list_tracks, record_of, stride_of

PARTS_PREFIX, PREVIEW_PREFIX = "parts/", "preview/"
MOST_FILES, MOST_ROWS = 256, 2_000_000  # of a group, which is what an interruption costs at most
_PART = re.compile(f"{PARTS_PREFIX}[0-9a-f]{{32}}\\.parquet")
_FORMAT = 2  # of parts; raise it when events of the same files and settings change
_READERS = 8  # threads that read the ends of files in an object store


@dataclass(frozen=True)
class Group:
    """Files that are counted together, and the key of their part in OUT2.

    The key depends on the files' content, the places and the settings, so that a part that exists
    is the part that would be written.
    """

    key: str
    heads: tuple[Head, ...]


@dataclass(frozen=True)
class Plan:
    """The work of a count.

    Attributes:
        groups: All files that can be read and counted, by video id.
        failures: The others.
        places: Places by camera, for one of its picture sizes.
        sizes: That size, where it is known.
    """

    groups: tuple[Group, ...]
    failures: tuple[Failure, ...]
    places: dict[str, CameraPlaces]
    sizes: dict[str, tuple[int, int]]


def make_plan(source: str, config: CountConfig) -> Plan:
    """Read the ends of all files, and refuse places that do not fit them.

    Args:
        source: OUT of a run (also `s3://`), a folder of its Parquet files, or one of them.
        config: Places and settings.

    Raises:
        ValueError: If there are no tracks, or a place does not fit: an unknown camera, a zone
            outside the picture, two of one name; shares where no file says the picture's size.
        OSError: If a store does not answer.
    """
    files = list_tracks(source)
    if text := next((file for file in files if not file.endswith(".parquet")), None):
        raise ValueError(f"tracks: got {text}, expected OUT of a run or its Parquet files")
    read = partial(read_head, stride=stride_of(record_of(source)))
    if "://" in files[0]:
        with ThreadPoolExecutor(_READERS) as threads:
            found = list(threads.map(read, files))
    else:
        found = [read(file) for file in files]
    heads = sorted((one for one in found if isinstance(one, Head)), key=lambda one: one.video_id)
    failures = [one for one in found if isinstance(one, Failure)]
    if failures and all(one.is_passing for one in failures) and not heads:
        raise OSError(f"{failures[0].file}: {failures[0].reason}")
    if heads:
        config.places.check_cameras({one.origin.camera for one in heads})
    unsized = [_unsized(one) for one in heads if _lacks_size(one, config)]
    if len(unsized) < len(heads):
        failures += unsized
        heads = [one for one in heads if not _lacks_size(one, config)]
    sizes = {one.origin.camera: one.size for one in heads if one.size is not None}
    return Plan(_group(heads, config), tuple(failures), _places(heads, config, sizes), sizes)


def _lacks_size(head: Head, config: CountConfig) -> bool:
    return head.size is None and config.places.needs_size(head.origin.camera)


def _unsized(head: Head) -> Failure:
    reason = "no width and height in its metadata, which places in shares need"
    return Failure(head.file, reason)


def _places(
    heads: Sequence[Head], config: CountConfig, chosen: Mapping[str, tuple[int, int]]
) -> dict[str, CameraPlaces]:
    """Places by camera for the chosen size, checked against every size of its pictures."""
    found: dict[str, CameraPlaces] = {}
    sizes = {(head.origin.camera, head.size) for head in heads}
    for camera, size in sorted(sizes, key=str):
        own = config.places.of_camera(camera, size)
        if camera not in found or size == chosen.get(camera):
            found[camera] = own
    return found


def _group(heads: Sequence[Head], config: CountConfig) -> tuple[Group, ...]:
    groups: list[list[Head]] = []
    rows = 0
    for head in heads:
        rows += head.num_rows
        if not groups or len(groups[-1]) == MOST_FILES or rows > MOST_ROWS:
            groups.append([])
            rows = head.num_rows
        groups[-1].append(head)
    settings = json.dumps([_FORMAT, asdict(config)], sort_keys=True)
    return tuple(Group(_key(own, settings), tuple(own)) for own in groups)


def _key(heads: Sequence[Head], settings: str) -> str:
    told = [[head.file, head.fingerprint, head.length_s, vars(head.origin)] for head in heads]
    text = json.dumps([settings, told], sort_keys=True)
    return f"{PARTS_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"


def is_part(key: str) -> bool:
    """Whether a key of OUT2 is that of a part; other files below `parts/` are not ours."""
    return _PART.fullmatch(key) is not None
