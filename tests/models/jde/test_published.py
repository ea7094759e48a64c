"""The published network: its size, its layers, and the original's figures, number by number."""

import numpy as np
import places
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jde_ray.models.jde import weights
from jde_ray.models.jde.config import CONFIGURATIONS, PUBLISHED_ANCHORS
from jde_ray.models.jde.decode import decode
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.network import JDE

GOLDEN = places.GOLDEN / "forward_576x320.npz"
ROWS = {(1088, 608): 54_264, (864, 480): 34_020, (576, 320): 15_120}
GFLOP = {(1088, 608): 271, (864, 480): 170, (576, 320): 75.5}


@pytest.fixture(scope="module")
def model(published_file):
    return weights.load(published_file, (576, 320))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def test_float32_gives_the_originals_rows(model, golden):
    assert_original(model, golden)


@torch.inference_mode()
def assert_original(model, golden):
    rng = np.random.Generator(np.random.PCG64(int(golden["image_seed"])))
    image = torch.from_numpy(rng.random((1, 3, 320, 576)).astype(np.float32))
    candidates = model(image.to(next(model.parameters()).device))
    num_rows = int(golden["n_rows"])
    assert candidates.scores.shape == (1, num_rows) == (1, ROWS[576, 320])
    rows = torch.arange(num_rows, device=candidates.boxes.device)
    embeddings = candidates.embeddings(0, rows).cpu().numpy()
    boxes, scores = candidates.boxes[0].cpu().numpy(), candidates.scores[0].cpu().numpy()

    step = int(golden["step"])
    assert_boxes(boxes[::step], golden["rows"][:, :4])
    np.testing.assert_allclose(scores[::step], golden["rows"][:, 4], rtol=0, atol=1e-5)
    np.testing.assert_allclose(embeddings[::step], golden["rows"][:, 6:], rtol=0, atol=1e-5)
    assert_boxes(boxes[::5], golden["boxes_conf"][:, :4])
    np.testing.assert_allclose(scores[::5], golden["boxes_conf"][:, 4], rtol=0, atol=1e-5)
    norms = np.linalg.norm(embeddings[::11], axis=1)
    np.testing.assert_allclose(norms, golden["row_norm"], rtol=0, atol=1e-5)
    columns = np.concatenate([boxes, scores[:, None], 0 * scores[:, None], embeddings], 1)
    for name, values in (("col_sum", columns), ("col_abs_sum", np.abs(columns))):
        difference = np.abs(values.sum(0, dtype=np.float64) - golden[name]) / num_rows
        assert (difference <= 1e-5 * np.maximum(1, np.abs(golden[name]) / num_rows)).all()


def assert_boxes(got, wanted):
    assert (np.abs(got - wanted) <= 1e-3 * np.maximum(1, np.abs(wanted))).all()


@pytest.mark.gpu
def test_float32_on_a_gpu_gives_the_originals_rows(published_file, golden):
    model = weights.load(published_file, (576, 320)).cuda()
    assert_original(optimise(model, "fp32"), golden)


@torch.inference_mode()
def test_a_batch_gives_what_its_images_give_alone(model):
    rng = np.random.default_rng(2)
    frames = torch.from_numpy(rng.integers(0, 256, (2, 96, 160, 3), dtype=np.uint8))
    together = model.detect(frames, 0.6)
    for image in range(2):
        alone = model.detect(frames[image : image + 1], 0.6)[0]
        assert len(alone.scores) == len(together[image].scores) > 0
        np.testing.assert_allclose(alone.tlbr, together[image].tlbr, atol=1e-2)
        np.testing.assert_allclose(alone.embeddings, together[image].embeddings, atol=1e-4)


@torch.inference_mode()
def test_embeddings_are_read_at_the_kept_boxes_only(model, monkeypatch):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = model.maps(images)
    asked = []
    candidates = decode(model.config, maps)
    original = type(candidates).embeddings

    def watch(self, image, rows):
        asked.append(len(rows))
        return original(self, image, rows)

    monkeypatch.setattr(type(candidates), "embeddings", watch)
    found = model.detect((images.permute(0, 2, 3, 1) * 255).to(torch.uint8), 0.4)[0]
    assert asked == [len(found.scores)]
    assert 0 < len(found.scores) < 4 * (6 + 24 + 96)


@pytest.mark.parametrize("size", PUBLISHED_ANCHORS, ids=lambda s: f"{s[0]}x{s[1]}")
def test_rows_and_arithmetic_of_each_size(size):
    config = CONFIGURATIONS[f"darknet53-{size[0]}x{size[1]}"]
    with torch.device("meta"):
        network = JDE(config).eval()
        with FlopCounterMode(display=False) as counter:
            candidates = network(torch.zeros(1, 3, size[1], size[0]))
    assert candidates.boxes.shape == (1, ROWS[size], 4)
    assert counter.get_total_flops() / 1e9 == pytest.approx(GFLOP[size], rel=2e-3)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters + 9 == 65_664_817  # the original counts its 9 task weights


@pytest.mark.parametrize(
    ("backbone", "parameters"), [("resnet50", 23_508_032), ("resnet101", 42_500_160)]
)
def test_the_papers_other_backbones_stand_under_the_same_neck(backbone, parameters):
    with torch.device("meta"):
        network = JDE(CONFIGURATIONS[f"{backbone}-864x480"]).eval()
    assert sum(p.numel() for p in network.backbone.parameters()) == parameters
    images = torch.zeros(1, 3, 480, 864, device="meta")
    network.backbone.to_empty(device="meta")  # the input's normalisation is not on meta
    features = network.backbone(images)
    assert [tuple(f.shape[1:]) for f in features] == [
        (512, 60, 108),
        (1024, 30, 54),
        (2048, 15, 27),
    ]
    assert network(images).scores.shape == (1, ROWS[864, 480])
