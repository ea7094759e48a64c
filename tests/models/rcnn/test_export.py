"""Two-stage networks as ONNX files: the numbers of torch, and a detector of separate networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_stage import network

from jde_ray.models.rcnn.config import FRCNN_VGG_SMALL
from jde_ray.models.rcnn.export import write_onnx
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.models.sde.declaration import DetectorDeclaration
from jde_ray.models.sde.network import PersonDetector

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.mark.parametrize("kind", ["frcnn", "jde-frcnn", pytest.param("cascade", id="last")])
def test_onnxruntime_gives_the_boxes_scores_and_embeddings_of_torch(tmp_path, kind):
    model = network(f"{kind}-small")
    if kind == "cascade":  # also the other places that its stages score, and that boxes are read at
        model.config = replace(model.config, scored_boxes="last", half_pixel=False)
    write_onnx(model, tmp_path / "net.onnx", {"licence": "test only"})
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert facts == {"licence": "test only", "config": model.config.to_json()}
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        wanted = model(images)
        xy, half = wanted.boxes[..., :2], wanted.boxes[..., 2:] / 2
        tlbr = torch.cat((xy - half, xy + half), 2)
        vectors = wanted.read(torch.zeros(tlbr.shape[1], dtype=torch.int64), tlbr[0])
    boxes, scores, *rest = session.run(None, {"images": images.numpy()})
    assert boxes.shape == (1, 20, 4)
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(boxes, tlbr.numpy(), atol=1e-3)
    np.testing.assert_allclose(scores[..., 0], wanted.scores.numpy(), atol=1e-5)
    assert len(rest) == (kind == "jde-frcnn")
    for one in rest:
        np.testing.assert_allclose(one[0], vectors.numpy(), atol=1e-4)


def test_the_file_is_a_detector_of_separate_networks(tmp_path):
    model = network()
    write_onnx(model, tmp_path / "net.onnx")
    declared = DetectorDeclaration(
        file=tmp_path / "net.onnx", layout="boxes_scores", fit="letterbox"
    )
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    tlbr, scores = PersonDetector(declared).detect(picture, 0.2, 0.5)
    (wanted,) = model.detect(torch.from_numpy(picture)[None], 0.2, 0.5, 300)
    assert len(scores) > 1
    np.testing.assert_allclose(scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(tlbr, wanted.tlbr, atol=1e-3)


def test_a_network_that_pools_by_maxima_is_refused(tmp_path):
    with torch.device("meta"):
        model = RcnnNet(FRCNN_VGG_SMALL)
    with pytest.raises(ValueError, match="format: got frcnn-vgg-small, which pools by maxima"):
        write_onnx(model, tmp_path / "net.onnx")
