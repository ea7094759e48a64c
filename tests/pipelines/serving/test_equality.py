"""The shipped network: PNG frames of a stream give the offline rows, JPEG frames the same people.

Ids count people in the order in which they are seen first, and by score in one frame, so that JPEG
frames may number them otherwise. Each must have one id of their own in a scene of people who are
tall enough to be found clearly. In scenes of tiny ones, whose scores lie at the threshold, a grey
level of noise on PNG frames is enough to change who is seen.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from places import DATA
from serving_service import png, running

from jde_ray.models.boxes import iou_matrix
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.serving.client.connection import connect
from jde_ray.pipelines.serving.deployments import resolve_settings
from jde_ray.pipelines.tracking import reference

RATE, NUM_FRAMES = 25, 12
Row = tuple[int, int, float, float, float, float, float]  # frame, track_id, tlbr, score


def synthetic() -> list[np.ndarray]:
    from jde_ray.models.synthetic.render import render
    from jde_ray.models.synthetic.scene import StreetScene

    scene = StreetScene(  # nobody in it is small, or found with the very score that starts a track
        95, width=640, height=360, frames_per_second=RATE, num_frames=NUM_FRAMES, num_people=5
    )
    return [image for image, _ in render(scene)]


def real() -> list[np.ndarray]:
    paths = sorted((DATA / "frames_gt/TUD-Stadtmitte/img1").glob("*.jpg"))[:NUM_FRAMES]
    if not paths:
        pytest.skip(f"no sequence TUD-Stadtmitte in {DATA} (JDE_TEST_DATA)")
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]


CLIPS = {
    "synthetic": pytest.param(synthetic, id="synthetic"),
    "real": pytest.param(real, marks=pytest.mark.data, id="real"),
}


@pytest.fixture(scope="module")
def service():
    with running(config=resolve_settings({"device": "cpu"})) as it:
        yield it


@pytest.mark.parametrize("clip", CLIPS.values())
def test_png_gives_the_offline_rows_and_jpeg_the_same_people(service, tmp_path, clip):
    images = clip()
    folder = tmp_path / "clip" / "img1"
    folder.mkdir(parents=True)
    (tmp_path / "clip/seqinfo.ini").write_text(f"[Sequence]\nframeRate={RATE}\n")
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:06d}.png"), np.ascontiguousarray(image[..., ::-1]))
    reference.track(
        [str(tmp_path / "clip")],
        str(tmp_path / "out"),
        service.service.config.track,  # resize: published
        resources=ResourceConfig(chunk_frames=1, device="cpu"),
    )
    table = pq.ParquetFile(next((tmp_path / "out/tracks").glob("*"))).read().to_pydict()
    names = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
    wanted = sorted(zip(*(table[name] for name in names), strict=True))
    assert len(wanted) > 2 * NUM_FRAMES

    with ThreadPoolExecutor(3) as pool:  # three streams at once
        rest = pool.submit(over_rest, service, images)
        exact, lossy = (pool.submit(over_socket, service, images, kind) for kind in ("png", "jpeg"))
    assert sorted(rest.result()) == wanted
    assert sorted(exact.result()) == wanted
    ids = same_people(lossy.result(), wanted)
    if clip is synthetic:  # whose scores are far apart
        assert all(one == other for one, other in ids)


def over_socket(service, images: list[np.ndarray], encoding: str) -> list[Row]:
    with connect(service.url).stream(RATE, encoding=encoding) as stream:
        return [
            (seq, int(number), *map(float, box), float(score))
            for seq, tracks in enumerate(stream.track(images))
            for number, box, score in zip(
                tracks.track_id, tracks.tlbr.astype(np.float32), tracks.score, strict=True
            )
        ]


def over_rest(service, images: list[np.ndarray]) -> list[Row]:
    stream, rows = service.open(rate=RATE), []
    for seq, image in enumerate(images):
        path = f"/v1/streams/{stream}/frames/{seq}"
        status, answer, _ = service.call("POST", path, png(image))
        assert status == 200, answer  # beside two sockets that are always ahead
        for person in answer["tracks"]:
            box, score = (np.float32(person[name]) for name in ("box", "score"))
            rows.append((seq, person["track_id"], *map(float, box), float(score)))
    return rows


def same_people(rows: list[Row], wanted: list[Row]) -> set[tuple[int, int]]:
    """The same people in nearly all frames, each under one id of their own in both.

    Who appear together are numbered by their scores, whose order JPEG may change.

    Returns:
        Each person's id in the first rows and in the others.
    """
    pairs = []
    for frame in {row[0] for row in rows}:
        here, there = ([row for row in part if row[0] == frame] for part in (rows, wanted))
        if not there:
            continue
        overlap = iou_matrix(*(np.array([row[2:6] for row in part]) for part in (here, there)))
        pairs += [
            (here[row], there[column])
            for row, column in np.argwhere(overlap > 0.5)
            if overlap[row].argmax() == column and overlap[:, column].argmax() == row
        ]
    assert len(pairs) >= 0.95 * max(len(rows), len(wanted))
    ids = {(one[1], other[1]) for one, other in pairs}
    assert len(ids) == len({row[1] for row in rows}) == len({row[1] for row in wanted})
    a, b = (np.array([pair[side][2:6] for pair in pairs]) for side in (0, 1))
    moved = np.abs(a - b).max(axis=1)
    assert np.median(moved) < 1.0
    assert (moved < 2.0).mean() > 0.8
    return ids
