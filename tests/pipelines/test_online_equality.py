"""The shipped network: PNG frames of a stream give the offline rows, JPEG frames the same ids."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from online_service import running

from pipelines import reference
from pipelines.config import ResourceConfig
from pipelines.online import connect
from pipelines.online.deployments import settle

DATA = Path(os.environ.get("JDE_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
RATE, NUM_FRAMES = 25, 20


def synthetic() -> list[np.ndarray]:
    from models.synthetic.render import render
    from models.synthetic.scene import StreetScene

    scene = StreetScene(
        12, width=640, height=360, frames_per_second=RATE, num_frames=NUM_FRAMES, num_people=6
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
    with running(config=settle({"device": "cpu"})) as it:
        yield it


@pytest.mark.parametrize("clip", CLIPS.values())
def test_png_gives_the_offline_rows_and_jpeg_their_ids(service, tmp_path, clip):
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

    rows = {}
    for encoding in ("png", "jpeg"):
        with connect(service.url).stream(RATE, encoding=encoding) as stream:
            rows[encoding] = [
                (seq, int(number), *map(float, box), float(score))
                for seq, tracks in enumerate(stream.track(images))
                for number, box, score in zip(
                    tracks.track_id, tracks.tlbr.astype(np.float32), tracks.score, strict=True
                )
            ]
    assert sorted(rows["png"]) == wanted
    assert {row[1] for row in rows["jpeg"]} == {row[1] for row in wanted}
    same = {row[:2] for row in rows["jpeg"]} & {row[:2] for row in wanted}
    assert len(same) >= 0.9 * len(wanted)
    boxes = {row[:2]: np.array(row[2:6]) for row in wanted}
    moved = [
        np.abs(np.array(row[2:6]) - boxes[row[:2]]).max() for row in rows["jpeg"] if row[:2] in same
    ]
    assert np.median(moved) < 2.0
