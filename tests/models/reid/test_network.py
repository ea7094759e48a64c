from dataclasses import replace

import pytest
import torch
from torch import nn

from jde_ray.models.reid.config import (
    CONFIGURATIONS,
    SMALL_IDE,
    SMALL_MASK,
    SMALL_PCB,
    SMALL_QAN,
    SMALL_REFINED_PCB,
    SMALL_WRN,
    WRN,
    ReidConfig,
)
from jde_ray.models.reid.network import ReidNet, appearance, stripes, weighted

RESNETS = [name for name, config in CONFIGURATIONS.items() if config.backbone == "resnet50"]


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=lambda c: c.name)
def test_every_network_gives_unit_vectors_of_its_width_and_its_file_says_what_it_is(config):
    assert ReidConfig.from_json(config.to_json()) == config
    with torch.device("meta"):
        network = ReidNet(config).eval()
        network.backbone.to("meta")
        width, height = config.size
        vectors = network.to("meta")(torch.zeros(2, 3, height, width, device="meta"))
    assert vectors.shape == (2, config.embedding_dim)


def test_vectors_have_length_one_and_each_part_counts_as_much():
    parts = torch.tensor([[[3.0, 4.0], [0.0, 100.0]]])
    vector = appearance(parts)
    assert vector.norm() == pytest.approx(1)
    assert vector[0, :2].norm() == pytest.approx(vector[0, 2:].norm().item())


def test_the_last_stage_of_pcb_keeps_the_size_of_the_map_before_it():
    with torch.device("meta"):
        network = ReidNet(CONFIGURATIONS["reid-pcb"]).eval()
    last = network.to("meta").backbone(torch.zeros(1, 3, 384, 128, device="meta"))[-1]
    assert last.shape == (1, 2048, 24, 8)


def test_swapped_stripes_of_the_map_swap_blocks_of_the_embedding():
    torch.manual_seed(0)
    network = ReidNet(SMALL_PCB).eval()
    last = torch.rand(2, 256, 12, 6)
    swapped = last.clone()
    swapped[:, :, 0:2], swapped[:, :, 8:10] = last[:, :, 8:10], last[:, :, 0:2]
    before = network.head(torch.zeros(0), last).vectors
    after = network.head(torch.zeros(0), swapped).vectors
    order = [4, 1, 2, 3, 0, 5]
    torch.testing.assert_close(after, before[:, order])
    assert not torch.allclose(after, before)
    assert appearance(after).shape == (2, 6 * SMALL_PCB.width)


def test_a_stripe_is_the_mean_of_its_rows():
    features = torch.arange(12.0).reshape(1, 1, 6, 2)
    assert stripes(features, 3)[0, :, 0].tolist() == [1.5, 5.5, 9.5]


def test_a_crop_size_that_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ValueError, match="size: got 100x192, reid-small-ide expects multiples"):
        replace(SMALL_IDE, size=(100, 192))
    with pytest.raises(ValueError, match="16 in width and 96 in height"):
        replace(SMALL_PCB, size=(96, 128))
    with pytest.raises(ValueError, match="backbone: got 'vgg', expected csp16"):
        replace(SMALL_IDE, backbone="vgg")
    with pytest.raises(ValueError, match="network configuration"):
        ReidConfig.from_json("{}")


def test_refined_parts_equal_stripes_where_cells_belong_to_them():
    torch.manual_seed(0)
    features = torch.rand(2, 5, 12, 4)
    shares = torch.eye(6).repeat_interleave(2, 0).T[None, :, :, None].expand(2, -1, -1, 4)
    torch.testing.assert_close(weighted(features, shares), stripes(features, 6))


def test_parts_follow_cells_that_move_and_their_own_order():
    """A person who is seen lower in the crop has the same parts; of stripes, swapped ones."""
    torch.manual_seed(0)
    net = ReidNet(SMALL_REFINED_PCB).eval()
    torch.nn.init.normal_(net.parts.weight)
    fine, last = torch.rand(1, 128, 24, 12), torch.rand(1, 256, 12, 6)
    moved = last.roll(2, 2)
    with torch.inference_mode():
        vectors = net.head(fine, last).vectors
        torch.testing.assert_close(net.head(fine, moved).vectors, vectors, atol=1e-5, rtol=1e-4)
        for values in (net.parts.weight, net.parts.bias):
            values.copy_(values[[1, 0, 2, 3, 4, 5]])
        swapped = net.head(fine, last).vectors
    torch.testing.assert_close(swapped[:, [1, 0, 2, 3, 4, 5]], vectors)
    assert not torch.allclose(swapped, vectors)


def test_refined_parts_are_those_of_pcb():
    with pytest.raises(ValueError, match="refined: got true with head ide"):
        replace(SMALL_IDE, refined=True)


def kernels(network):
    """Weights of convolutions and matrices, without those of a quality branch."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


def test_deepsort_s_network_has_the_published_layers():
    with torch.device("meta"):
        network = ReidNet(WRN)
    assert kernels(network) == 2_799_456
    learned = {name for name, p in network.named_parameters() if p.requires_grad}
    assert "backbone.stem.1.bias" in learned
    assert "backbone.stem.1.weight" not in learned  # norms learn a shift only
    maps = network.to("meta").backbone(torch.zeros(1, 3, 128, 64, device="meta"))
    assert maps[-1].shape == (1, 128, 16, 8)


def test_inception_joins_the_published_channels_at_the_published_sizes():
    with torch.device("meta"):
        network = ReidNet(CONFIGURATIONS["reid-qan"]).to("meta")
    shapes = []
    for block in network.backbone.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:3])))
    network.backbone(torch.zeros(1, 3, 224, 224, device="meta"))
    assert shapes == [
        *((256, 28), (320, 28), (576, 14)),
        *((576, 14), (576, 14), (576, 14), (576, 14), (1024, 7)),
        *((1024, 7), (1024, 7)),
    ]


def test_a_cosine_network_starts_from_small_kernels_and_keeps_every_cell_apart():
    torch.manual_seed(0)
    network = ReidNet(replace(SMALL_WRN, size=(16, 32))).eval()
    first = network.backbone.stem[0].weight
    assert 0.0005 < first.std() < 0.0015
    assert first.abs().max() <= 0.002
    assert network.linear.weight.shape == (128, 64 * 4 * 2)
    last = torch.rand(1, 64, 4, 2)
    turned = network.head(last, last.flip(3)).raw
    assert not torch.allclose(network.head(last, last).raw, turned)


def test_a_network_that_tells_quality_tells_it_of_each_crop():
    torch.manual_seed(0)
    network = ReidNet(replace(SMALL_QAN, size=(32, 64))).eval()
    nn.init.normal_(network.quality.last.weight)
    found = network.part_vectors(torch.rand(3, 3, 64, 32)).float()
    assert found.quality.shape == (3,)
    assert len(set(found.quality.tolist())) == 3
    plain = ReidNet(SMALL_IDE).eval()
    assert plain.head(torch.rand(1, 128, 4, 4), torch.rand(1, 256, 2, 2)).quality is None


def test_what_surrounds_a_person_does_not_reach_masked_features():
    torch.manual_seed(0)
    network = ReidNet(SMALL_MASK).eval()
    last = torch.rand(1, 256, 12, 6)
    moved = last.clone()
    moved[..., 0, 0] += 5.0
    torch.testing.assert_close(network.head(last, moved).raw, network.head(last, last).raw)
    moved[..., 6, 3] += 5.0
    assert not torch.allclose(network.head(last, moved).raw, network.head(last, last).raw)
    with pytest.raises(ValueError, match="pooling: got ellipse in reid-small-pcb, expected mean"):
        replace(SMALL_PCB, pooling="ellipse")
    with pytest.raises(ValueError, match="pooling: got 'max', expected mean"):
        replace(SMALL_MASK, pooling="max")
