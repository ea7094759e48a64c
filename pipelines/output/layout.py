"""Keys of a run's objects in OUT, a folder or a prefix of a bucket.

run.json                     configuration of the run
summary.json                 result of the last call; summary-k-of-K.json of each partition
report.html                  page about the run
tracks/<video_id>.parquet    rows of a video, which is committed once this object exists
errors/<video_id>.json       why a video has no tracks
detections/<video_id>.parquet, mot/<video_id>.txt, videos/<video_id>.mp4; at the end of a run
                             a text has its plain name: see `pipelines.output.text_names`
crops/index/<video_id>.parquet
                             table of the pictures of a video's tracks, written after them
crops/<video_id>/<track_id>/<frame>.jpg
                             a picture of a track; numbers have eight digits
pictures.json                how the drawn videos and crops of OUT are made
input_sizes/<video_id>.json  the size of the network's input that --size auto chose, and why
refined/                     an OUT of refined tracks: run.json and tracks/
checkpoints/<video_id>/      see `pipelines.output.checkpoints`
"""

from __future__ import annotations

from collections.abc import Collection

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.storage.base import ObjectStore

RUN_KEY = "run.json"
REPORT_KEY = "report.html"
PICTURES_KEY = "pictures.json"
SUMMARY_PREFIX = "summary"
TRACKS_PREFIX, ERRORS_PREFIX, DETECTIONS_PREFIX = "tracks/", "errors/", "detections/"
MOT_PREFIX, VIDEOS_PREFIX, CHECKPOINTS_PREFIX = "mot/", "videos/", "checkpoints/"
REFINED_PREFIX, INPUT_SIZES_PREFIX = "refined/", "input_sizes/"
# tables have a prefix of their own, so that finding finished videos lists no pictures
CROPS_PREFIX, CROP_INDEX_PREFIX = "crops/", "crops/index/"

# folders of OUT that belong to its run alone
OWN_PREFIXES = (
    *(TRACKS_PREFIX, ERRORS_PREFIX, DETECTIONS_PREFIX, MOT_PREFIX, VIDEOS_PREFIX),
    *(CHECKPOINTS_PREFIX, INPUT_SIZES_PREFIX, CROPS_PREFIX),
)

# suffix of a video's object below each prefix; the commit comes first
_SUFFIXES = {
    TRACKS_PREFIX: ".parquet",
    ERRORS_PREFIX: ".json",
    DETECTIONS_PREFIX: ".parquet",
    MOT_PREFIX: ".txt",
    VIDEOS_PREFIX: ".mp4",
    CROP_INDEX_PREFIX: ".parquet",
}


def input_size_key(video_id: str) -> str:
    """Key of the input size that was chosen for a video; its results do not include it."""
    return f"{INPUT_SIZES_PREFIX}{video_id}.json"


def tracks_key(video_id: str) -> str:
    """Key of a video's rows; the object's existence is the commit."""
    return _key(TRACKS_PREFIX, video_id)


def error_key(video_id: str) -> str:
    """Key of a failed video's error record."""
    return _key(ERRORS_PREFIX, video_id)


def detections_key(video_id: str) -> str:
    """Key of a video's detections."""
    return _key(DETECTIONS_PREFIX, video_id)


def mot_key(video_id: str) -> str:
    """Key of a video's MOTChallenge text while a run writes; later see `output.text_names`."""
    return _key(MOT_PREFIX, video_id)


def video_key(video_id: str) -> str:
    """Key of a video with its tracks drawn on it."""
    return _key(VIDEOS_PREFIX, video_id)


def crop_index_key(video_id: str) -> str:
    """Key of the table of a video's crops; the object exists once all of them do."""
    return _key(CROP_INDEX_PREFIX, video_id)


def crops_prefix(video_id: str) -> str:
    """Prefix of the crops of a video. An id is never `index`, since it ends with a hash."""
    return f"{CROPS_PREFIX}{video_id}/"


def crop_key(video_id: str, track_id: int, frame: int) -> str:
    """Key of a picture of a track; keys sort by number."""
    return f"{crops_prefix(video_id)}{track_id:08d}/{frame:08d}.jpg"


def summary_key(share: tuple[int, int]) -> str:
    """Key of a run's summary; with several partitions each has its own."""
    part, of = share
    return f"{SUMMARY_PREFIX}.json" if of == 1 else f"{SUMMARY_PREFIX}-{part}-of-{of}.json"


def result_keys(video_id: str) -> list[str]:
    """Keys of all objects that a run may write for a video, tracks first.

    Checkpoints are left out, and crops, of which there may be many (`crops_prefix`).
    """
    return [_key(prefix, video_id) for prefix in _SUFFIXES]


def written_keys(video_id: str, outputs: OutputConfig) -> list[str]:
    """Keys of the objects that a run with these outputs writes for a video that it has tracked."""
    optional = {
        VIDEOS_PREFIX: outputs.save_video,
        CROP_INDEX_PREFIX: outputs.save_crops,
        MOT_PREFIX: outputs.save_mot,
        DETECTIONS_PREFIX: outputs.save_detections,
    }
    prefixes = [TRACKS_PREFIX, *(prefix for prefix, is_wanted in optional.items() if is_wanted)]
    keys = [_key(prefix, video_id) for prefix in prefixes]
    return [*keys, REFINED_PREFIX + tracks_key(video_id)] if outputs.refine else keys


def list_ids(store: ObjectStore, prefix: str, start: str = "") -> set[str]:
    """Ids of the videos that have an object below one of this module's prefixes.

    Args:
        store: OUT.
        prefix: One of this module's prefixes.
        start: Only ids that start with this.
    """
    suffix = _SUFFIXES[prefix]
    return {
        key.removeprefix(prefix).removesuffix(suffix)
        for key in store.list(prefix + start)
        if key.endswith(suffix)
    }


def with_results(store: ObjectStore, video_ids: Collection[str]) -> set[str]:
    """Those of the videos that have any object except checkpoints in the store.

    A text with a plain name may be of any video of that name.
    """
    found: set[str] = set()
    for prefix in _SUFFIXES:
        found |= list_ids(store, prefix)
    return {one for one in video_ids if one in found or sequence_name(one) in found}


def _key(prefix: str, video_id: str) -> str:
    return f"{prefix}{video_id}{_SUFFIXES[prefix]}"
