"""`pictures.json`: how the drawn videos and crops of OUT are made, the same for all of them.

Without it a call with `--blur` would leave the pictures of earlier calls as they are, and nobody
could tell by looking at OUT which of them show people.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.layout import CROP_INDEX_PREFIX, PICTURES_KEY, VIDEOS_PREFIX
from jde_ray.pipelines.storage.base import ObjectStore


@dataclass(frozen=True)
class _Record:
    """What the pictures of an OUT hide, and crops per track; None while there are no crops."""

    blur: str
    crops_per_track: int | None = None


def check_pictures(store: ObjectStore, outputs: OutputConfig) -> None:
    """Refuse pictures of other settings than those that OUT holds.

    Raises:
        RunError: If OUT has pictures of another blur, or crops of another number per track.
    """
    kept = _read(store) if outputs.has_pictures else None
    if kept is None:
        return
    if kept.blur != outputs.blur:
        raise RunError(
            f"blur: got {outputs.blur}, but the pictures in {store.uri} have {kept.blur}; remove"
            f" its videos/, crops/, report.html and {PICTURES_KEY} first, or choose another folder",
            ExitCode.OTHER_CONFIGURATION,
        )
    most = kept.crops_per_track
    if outputs.save_crops and most not in (None, outputs.crops_per_track):
        raise RunError(
            f"crops-per-track: got {outputs.crops_per_track}, but the crops in {store.uri} have"
            f" {most}; remove its crops/ and {PICTURES_KEY} first, or choose another folder",
            ExitCode.OTHER_CONFIGURATION,
        )


def record_pictures(store: ObjectStore, outputs: OutputConfig) -> None:
    """Record the settings of the pictures that follow, which `check_pictures` has allowed."""
    if not outputs.has_pictures:
        return
    kept = _read(store)
    before = None if kept is None else kept.crops_per_track
    record = _Record(outputs.blur, outputs.crops_per_track if outputs.save_crops else before)
    if record != kept or not store.exists(PICTURES_KEY):
        store.put(PICTURES_KEY, f"{json.dumps(asdict(record), indent=1)}\n".encode())


def _read(store: ObjectStore) -> _Record | None:
    """The record; None if there are no pictures.

    Pictures without a record that can be read count as not blurred: they may be.
    """
    try:
        values = json.loads(store.get(PICTURES_KEY))
        most = values["crops_per_track"]
        return _Record(str(values["blur"]), None if most is None else int(most))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        prefixes = (VIDEOS_PREFIX, CROP_INDEX_PREFIX)
        has_any = any(next(iter(store.list(prefix)), None) is not None for prefix in prefixes)
        return _Record("none") if has_any else None
