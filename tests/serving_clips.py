"""Clips for a service on Ray Serve, their rows over REST and sockets, and those offline."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from serving_service import TRACK, call, frame, png

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.serving.client.connection import connect
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.video.chunks import decode_segment

SERVE_MARKS = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
ARGS = {
    "track": asdict(TRACK),
    "build_model": fakes.ColourModel,
    "device": "cpu",
    "num_detectors": 2,
    "num_sessions": 2,
    "num_ingresses": 2,
    "request_log": "none",
    # the limits in seconds are for the machine of a user, not for one that tests keep busy
    "limits": {"max_waiting": 8, "idle_s": 120.0, "request_s": 120.0, "decode_s": 60.0},
}


def write_clips(folder: Path, number: int, num_frames: int) -> list[list[np.ndarray]]:
    clips = [[frame(index, seed) for index in range(num_frames)] for seed in range(number)]
    for seed, images in enumerate(clips):
        (folder / f"clip{seed}" / "img1").mkdir(parents=True)
        (folder / f"clip{seed}" / "seqinfo.ini").write_text("[Sequence]\nframeRate=25\n")
        for index, image in enumerate(images):
            path = folder / f"clip{seed}" / "img1" / f"{index:06d}.png"
            cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return clips


def offline_rows(folder: Path, config, components) -> dict[str, list[tuple]]:
    """By clip: (frame, track_id, x1, y1, x2, y2, score) as the offline run writes them.

    The fake decoder reads scripts, so the real one is taken.
    """
    components = replace(components, decode=decode_segment)
    summary = reference.track(
        [str(folder)],
        str(folder / "out"),
        config,
        components=components,
        resources=ResourceConfig(chunk_frames=1, device="cpu"),
    )
    assert summary.videos_done == len(list(folder.glob("clip*")))
    rows = {}
    for path in sorted((folder / "out/tracks").glob("*.parquet")):
        table = pq.ParquetFile(path).read().to_pydict()
        names = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
        rows[path.stem.split("-")[0]] = list(zip(*(table[name] for name in names), strict=True))
    return rows


def to_rows(seq: int, tracks: list[dict]) -> list[tuple]:
    """Rows of an answer, in the precision of the Parquet file."""
    return [
        (seq, t["track_id"], *(float(np.float32(v)) for v in (*t["box"], t["score"])))
        for t in tracks
    ]


def over_rest(port: int, clips: list[list[np.ndarray]]) -> list[list[tuple]]:
    """All clips frame by frame in turn, so that the streams interleave strictly."""
    streams = []
    for _ in clips:
        _, answer, _ = call(
            port, "POST", "/v1/streams", b'{"frames_per_second": 25}', kind="application/json"
        )
        streams.append(answer["stream"])
    rows: list[list[tuple]] = [[] for _ in clips]
    for seq in range(len(clips[0])):

        def post(index: int, seq: int = seq) -> tuple:
            path = f"/v1/streams/{streams[index]}/frames/{seq}"
            return call(port, "POST", path, png(clips[index][seq]))

        with ThreadPoolExecutor(8) as pool:
            for index, (status, answer, _) in enumerate(pool.map(post, range(len(clips)))):
                assert status == 200, answer
                rows[index] += to_rows(seq, answer["tracks"])
    return rows


def over_sockets(
    port: int, clips: list[list[np.ndarray]], encoding: str = "png"
) -> list[list[tuple]]:
    def play(images: list[np.ndarray]) -> list[tuple]:
        rows: list[tuple] = []
        # a killed replica starts again within seconds, but within minutes where all cores are busy
        client = connect(f"http://127.0.0.1:{port}", connect_s=60.0, patience_s=300.0)
        with client.stream(25, encoding=encoding) as stream:
            for seq, tracks in enumerate(stream.track(images)):
                boxes = tracks.tlbr.astype(np.float32)
                for number, box, score in zip(tracks.track_id, boxes, tracks.score, strict=True):
                    rows.append((seq, int(number), *map(float, box), float(score)))
        return rows

    with ThreadPoolExecutor(len(clips)) as pool:
        return list(pool.map(play, clips))


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 300
    while call(port, "GET", "/readyz")[0] != 200:  # a replica that was killed is coming back
        assert time.monotonic() < deadline
        time.sleep(0.2)


def kill_one(kind: str) -> None:
    """Kill the process of a replica of this Ray."""
    import ray

    names = [
        found["name"]
        for found in ray.util.list_named_actors(all_namespaces=True)
        if f"#{kind}" in found["name"] and found["name"].startswith("SERVE_REPLICA")
    ]
    assert names, f"no replica of {kind}"
    actor = ray.get_actor(sorted(names)[0], namespace="serve")
    ray.kill(actor, no_restart=True)


def check_rows(rows: list[list[tuple]], wanted: dict[str, list[tuple]]) -> None:
    """Every clip's rows are the offline ones, in any order."""
    assert {f"clip{i}": sorted(part) for i, part in enumerate(rows)} == {
        name: sorted(part) for name, part in wanted.items()
    }
