import numpy as np
import pytest
import torch

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL, JDEConfig
from jde_ray.models.jde.network import JDE


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    network = JDE(SMALL).eval()
    with torch.no_grad():
        for head in network.heads:  # untrained scores are all alike: spread them
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    return network


def frames(count):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 96, 160, 3), dtype=np.uint8))


def test_small_has_about_two_to_six_million_parameters(model):
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 6.2e6


def test_a_batch_gives_what_its_images_give_alone(model):
    batch = frames(3)
    together = model.detect(batch, 0.5)
    assert len(together) == 3
    for image in range(3):
        alone = model.detect(batch[image : image + 1], 0.5)[0]
        assert len(alone.scores) == len(together[image].scores) > 0
        np.testing.assert_allclose(alone.tlbr, together[image].tlbr, atol=1e-2)
        np.testing.assert_allclose(alone.embeddings, together[image].embeddings, atol=1e-3)


def test_only_what_is_kept_comes_to_the_host(model, monkeypatch):
    """The dense embedding map stays on the device, and so do all other candidates."""
    sizes = []

    def watched(original):
        def copy(tensor, *arguments):
            sizes.append(tensor.numel())
            return original(tensor, *arguments)

        return copy

    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, watched(getattr(torch.Tensor, name)))
    found = model.detect(frames(2), 0.5, max_detections=7)
    kept = sum(len(f.scores) for f in found)
    assert kept == 14
    assert max(sizes) == kept * (5 + SMALL.embedding_dim)


def test_images_of_a_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match="multiples of 32"):
        model(torch.zeros(1, 3, 100, 160))


def test_an_unknown_backbone_is_refused():
    values = {**SMALL.__dict__, "backbone": "vgg"}
    with pytest.raises(ValueError, match="shufflenet"):
        JDE(JDEConfig(**values))


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=lambda c: c.name)
def test_configuration_survives_its_json(config):
    assert JDEConfig.from_json(config.to_json()) == config


def test_configuration_json_of_another_project_is_refused():
    with pytest.raises(ValueError, match="network configuration"):
        JDEConfig.from_json('{"colour": "blue"}')


def test_the_published_neck_and_heads_are_a_configuration():
    values = {
        **SMALL.__dict__,
        "name": "published-like",
        "neck_block": "conv5",
        "neck_channels": (64, 32, 16),
        "neck_depth": (0, 0, 0),
        "activation": "leaky_relu",
        "head_expansion": 2,
        "embedding_dim": 32,
        "embedding_hidden": False,
        "anchors": tuple(tuple((float(s + a), 3.0 * s) for a in range(4)) for s in (32, 16, 8)),
        "cell_offset": 0.0,
        "score": "softmax",
    }
    network = JDE(JDEConfig(**values)).eval()
    maps = network.maps(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.box.shape) for m in maps] == [
        (1, 4, 4, 2, 3),
        (1, 4, 4, 4, 6),
        (1, 4, 4, 8, 12),
    ]
    candidates = network(torch.zeros(1, 3, 64, 96))
    assert candidates.scores.shape == (1, 4 * (6 + 24 + 96))
    rows = torch.tensor([1, 7])  # the same cell under anchors 0 and 1: one embedding
    first, second = candidates.embeddings(0, rows)
    torch.testing.assert_close(first, second)


def test_the_anchors_of_the_papers_text_are_another_list_of_any_size():
    text = CONFIGURATIONS["darknet53-1088x608"].with_text_anchors()
    widths = [round(w) for row in text.anchors[::-1] for w, _ in row]
    assert widths == [11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512]
    assert all(h == 3 * w for row in text.anchors for w, h in row)
    assert text.has_published_layout
    half = CONFIGURATIONS["anchor-small"].with_text_anchors()
    assert half.anchors[2][0][0] == pytest.approx(text.anchors[2][0][0] * 320 / 608)
    with pytest.raises(ValueError, match="anchors: got text with small"):
        SMALL.with_text_anchors()


def test_another_input_size_leaves_the_anchors_which_fit_the_strides():
    small = CONFIGURATIONS["anchor-small"]
    assert (small.backbone, small.embedding_dim, small.num_anchors) == ("csp", 128, 4)
    half = small.at_size((288, 192))
    assert half.size == (288, 192)
    assert half.anchors == small.anchors
    with pytest.raises(ValueError, match="multiples of 32"):
        small.at_size((300, 160))


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (torch.zeros(1, 64, 96, 3), r"float32 of shape \(1, 64, 96, 3\)"),
        (torch.zeros(64, 96, 3, dtype=torch.uint8), r"uint8 of shape \(64, 96, 3\)"),
        (torch.zeros(1, 64, 96, 4, dtype=torch.uint8), r"\(1, 64, 96, 4\)"),
        (torch.zeros(1, 64, 96, 1, dtype=torch.uint8), r"\(1, 64, 96, 1\)"),
        (torch.zeros(1, 0, 0, 3, dtype=torch.uint8), r"\(1, 0, 0, 3\)"),
        (torch.zeros(1, 64, 100, 3, dtype=torch.uint8), r"\(1, 64, 100, 3\)"),
    ],
    ids=["float", "no batch axis", "RGBA", "grey", "0x0", "unaligned"],
)
def test_frames_of_another_kind_are_refused_in_one_line(frames, got):
    model = JDE(CONFIGURATIONS["small"]).eval()
    with pytest.raises(ValueError, match=f"frames: got .*{got}, expected uint8 from 0 to 255"):
        model.detect(frames)
