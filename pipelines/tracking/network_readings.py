"""Runs a network on labelled frames, as `jde eval --weights` scores it.

    sets --> decode --> read --> readings       a Ray Data pipeline, streaming

Videos are decoded, and the network is run, by the pools of `jde track`: batches, and GPUs where
there are any. Small work is done in this process, with the same readings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import ray
from ray.data import DataContext, Dataset, TaskPoolStrategy

from jde_ray.pipelines.cluster import connected
from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.known_boxes import (
    LabelledFrames,
    Readings,
    read_chunk,
)
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.failures import to_run_error
from jde_ray.pipelines.tracking.pools import size_pools
from jde_ray.pipelines.tracking.small_work import MOST_VIDEOS, frames_left, may_stay
from jde_ray.pipelines.tracking.stages.known_boxes import (
    KnownBoxStage,
    decode_labelled,
    labelled_chunks,
    labelled_rows,
    readings_of_row,
)
from jde_ray.pipelines.tracking.stalls import Watch
from jde_ray.pipelines.tracking.streaming import streaming_context

_DECODER_BYTES = 256 << 20  # also keeps Ray Data from fusing the stage into the detectors


def read_network(
    sets: Sequence[LabelledFrames],
    config: TrackConfig,
    resources: ResourceConfig = ResourceConfig(),
    components: Components = Components(),
) -> dict[str, Readings]:
    """Detections, and embeddings of the people, on all frames of all sets.

    Args:
        sets: Frames and people, with different names.
        config: Settings of the network, stride and frame limit of videos; no camera motion.
        resources: Pools, device, Ray's address.
        components: Functions that decode and detect.

    Returns:
        Readings by the name of the set.

    Raises:
        ValueError: If frames of a set cannot be read, or the weights cannot be used.
        RunError: If there is no Ray at the address, or the dataflow fails.
    """
    if is_small(sets, config, resources):
        return read_here(sets, config, resources, components)
    with connected(resources.address):
        pairs = _read_on_ray(sets, config, resources, components)
        return _gather(sets, pairs)


def is_small(
    sets: Sequence[LabelledFrames], config: TrackConfig, resources: ResourceConfig
) -> bool:
    """Whether the sets are read sooner in this process, as in `small_work`."""
    if not may_stay(resources):
        return False
    videos = [one.video for one in sets if one.video is not None]
    pictures = sum(len(one.pictures) for one in sets)
    return len(videos) <= MOST_VIDEOS and frames_left(videos, config, resources) >= pictures


def read_here(
    sets: Sequence[LabelledFrames],
    config: TrackConfig,
    resources: ResourceConfig = ResourceConfig(),
    components: Components = Components(),
) -> dict[str, Readings]:
    """`read_network` in this process without Ray: the oracle of the dataflow.

    Raises:
        ValueError: If frames of a set cannot be read, or the weights cannot be used.
    """
    detector = Detector(config.detection, resources, components.build_model)

    def pairs() -> Iterator[tuple[str, Readings]]:
        for one in sets:
            for row in labelled_rows([one]):
                chunks = labelled_chunks(components.decode, row, config, resources)
                for chunk, people in chunks:
                    yield chunk.video_id, read_chunk(detector, chunk, people)

    return _gather(sets, pairs())


def _read_on_ray(
    sets: Sequence[LabelledFrames],
    config: TrackConfig,
    resources: ResourceConfig,
    components: Components,
) -> Iterator[tuple[str, Readings]]:
    pools = size_pools(resources)
    with DataContext.current(streaming_context()):
        items = labelled_rows(sets)
        rows: Dataset = ray.data.from_items(items, override_num_blocks=len(items))
        chunks = rows.map_batches(
            partial(decode_labelled, components.decode, config, resources),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(pools.num_decoders),
            num_cpus=pools.decoder_cpus,
            memory=_DECODER_BYTES,
        )
        readings = chunks.map_batches(
            KnownBoxStage,
            fn_constructor_args=(config.detection, resources, components.build_model),
            **pools.detectors(),
        )
    with Watch(pools) as watch:
        try:
            for row in readings.iter_rows():
                watch.moved()
                yield readings_of_row(row)
        except RunError:
            raise
        except Exception as error:
            raise to_run_error(watch.verdict or error) from error


def _gather(
    sets: Sequence[LabelledFrames], pairs: Iterator[tuple[str, Readings]]
) -> dict[str, Readings]:
    """Readings by name; chunks come in any order.

    Raises:
        ValueError: If a set could not be read to its end.
    """
    parts: dict[str, list[Readings]] = {one.key: [] for one in sets}
    for key, readings in pairs:
        parts[key].append(readings)
    gathered = {}
    for one in sets:
        whole = Readings.joined(parts[one.key])
        if whole.error is not None:
            place = one.name if one.video is None else one.video.uri
            raise ValueError(f"{place}: {whole.error}")
        gathered[one.name] = whole
    return gathered
