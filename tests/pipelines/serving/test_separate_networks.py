"""A detector and an embedder of ours: frames of a stream give the rows of `jde track`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from serving_service import png, running
from two_stage import write

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.reid import weights as reid_files
from jde_ray.models.reid.config import CONFIGURATIONS
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.serving.deployments import resolve_settings
from jde_ray.pipelines.tracking import reference

pytestmark = pytest.mark.slow

RATE, NUM_FRAMES = 25, 6
LOW = {"detection": {"score_threshold": 0.2}, "tracking": {"birth_score": 0.3}}


@pytest.mark.parametrize("kind", ["one stage", "two stages"])
def test_a_stream_gives_the_offline_rows(tmp_path, kind):
    detector = joint_files.resolve("small")
    if kind == "two stages":
        detector = write(tmp_path, size=(320, 192))
    torch.manual_seed(0)
    embedder = ReidNet(CONFIGURATIONS["reid-tiny-ide"]).eval()
    reid_files.save(embedder, tmp_path / "reid.safetensors")
    (tmp_path / "sde.yaml").write_text(
        f"frames: 640x352\ndetector: {{weights: {detector}}}\n"
        "embedder: {weights: reid.safetensors}\n",
        encoding="utf-8",
    )
    track = LOW if kind == "two stages" else {}
    settings = {"device": "cpu", "weights": str(tmp_path / "sde.yaml"), "track": track}
    with running(config=resolve_settings(settings)) as service:
        config = service.service.config.track
        scene = StreetScene(
            95, width=640, height=352, frames_per_second=RATE, num_frames=NUM_FRAMES, num_people=5
        )
        images = [image for image, _ in render(scene)]
        wanted = offline(tmp_path, images, config)
        stream, rows = service.open(rate=RATE), []
        for seq, image in enumerate(images):
            path = f"/v1/streams/{stream}/frames/{seq}"
            status, answer, _ = service.call("POST", path, png(image))
            assert status == 200, answer
            for person in answer["tracks"]:
                box = np.float32(person["box"]).tolist()
                rows.append((seq, person["track_id"], *box))
    assert len(wanted) > NUM_FRAMES
    assert sorted(rows) == wanted


def offline(folder, images, config):
    """Sorted (frame, track id, corners) of `jde track`'s loop."""
    (folder / "clip/img1").mkdir(parents=True)
    (folder / "clip/seqinfo.ini").write_text(f"[Sequence]\nframeRate={RATE}\n")
    for index, image in enumerate(images):
        picture = np.ascontiguousarray(image[..., ::-1])
        cv2.imwrite(str(folder / f"clip/img1/{index:06d}.png"), picture)
    resources = ResourceConfig(chunk_frames=1, device="cpu")
    reference.track([str(folder / "clip")], str(folder / "out"), config, resources=resources)
    rows = read_tracks(next((folder / "out/tracks").iterdir()))
    found = zip(rows.frame, rows.track_id, np.float32(rows.tlbr), strict=True)
    return sorted((int(f), int(i), *box.tolist()) for f, i, box in found)
