"""`run.json` of refined tracks: the record of their run, and the steps that refined them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from jde_ray.pipelines.output.layout import RUN_KEY
from jde_ray.pipelines.output.run_record import parse_record
from jde_ray.pipelines.refinement.steps import RefineConfig
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store


def check_refined(out: str, config: RefineConfig) -> None:
    """Refuse a folder of tracks that were refined by other steps, or of anything else.

    Raises:
        ValueError: If it holds such content, or its `run.json` cannot be read.
        OSError: If its store cannot be used.
    """
    store = open_store(out)
    _refuse_other_content(store)
    if store.exists(RUN_KEY) and _existing_record(store)["config"].get("refined") != _plain(config):
        raise ValueError(
            f"out: {store.uri} holds tracks refined by other steps; remove it to refine them again"
        )


def _refuse_other_content(store: ObjectStore) -> None:
    is_empty = next(iter(store.list("")), None) is None
    if not is_empty and not store.exists(RUN_KEY):
        raise ValueError(f"out: {store.uri} is not empty; choose another folder")


def _plain(config: RefineConfig) -> Any:
    return json.loads(json.dumps(config.to_dict()))


def begin_record(
    store: ObjectStore, record: dict[str, Any], source: str, config: RefineConfig
) -> None:
    """Create `run.json`, or check the existing one.

    It is the run's `run.json` with `refined` added to the configuration, so that `jde track`
    refuses this folder.
    """
    _refuse_other_content(store)
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
