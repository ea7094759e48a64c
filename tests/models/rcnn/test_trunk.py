from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jde_ray.models.backbones.resnet import FrozenNorm, ResNet
from jde_ray.models.backbones.vgg import Vgg16
from jde_ray.models.rcnn.config import CONFIGURATIONS, FRCNN_SMALL
from jde_ray.models.rcnn.trunk import Pyramid, Trunk
from jde_ray.models.rcnn.weights import empty


@pytest.mark.parametrize("name", ["frcnn-r50", "frcnn-vgg16", "frcnn-small", "frcnn-vgg-small"])
def test_every_stride_has_a_map(name):
    network = empty(CONFIGURATIONS[name])
    config = network.config
    maps = network.to("meta").trunk(torch.zeros(1, 3, 96, 128, device="meta"))
    for stride, one in zip(config.strides, maps, strict=True):
        assert one.shape[1] == network.trunk.channels
        assert one.shape[2] == -(-96 // stride)
        assert one.shape[3] == -(-128 // stride)


def test_stem_first_stage_and_norms_of_a_resnet_do_not_learn():
    network = empty(CONFIGURATIONS["frcnn-r50"])
    names = [name for name, p in network.backbone.named_parameters() if not p.requires_grad]
    assert {name.split(".")[0] for name in names} == {"conv1", "layer1"}
    assert not any("bn" in name for name, _ in network.backbone.named_parameters())
    assert "layer4.2.bn3.running_var" in network.backbone.state_dict()


def test_the_first_four_convolutions_of_vgg_do_not_learn():
    network = empty(CONFIGURATIONS["frcnn-vgg16"])
    names = [name for name, p in network.backbone.named_parameters() if not p.requires_grad]
    assert names == [
        f"features.{layer}.{leaf}" for layer in (0, 2, 5, 7) for leaf in ("weight", "bias")
    ]


def test_vgg_numbers_its_layers_as_torchvision_does_and_ends_before_the_last_pooling():
    with torch.device("meta"):
        layers = Vgg16().features
    numbers = [n for n, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    pools = [n for n, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    assert pools == [4, 9, 16, 23]


def test_a_frozen_norm_is_a_batch_norm_in_use_that_training_leaves_alone():
    torch.manual_seed(0)
    norm, frozen = nn.BatchNorm2d(5).eval(), FrozenNorm(5)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        value.data.uniform_(0.5, 2)
    state = norm.state_dict()
    del state["num_batches_tracked"]
    frozen.load_state_dict(state)
    x = torch.randn(2, 5, 3, 4)
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    torch.testing.assert_close(frozen.train()(x), norm(x))
    assert all(torch.equal(frozen.state_dict()[key], before[key]) for key in before)
    assert not list(frozen.parameters())


def test_a_resnet_gives_its_map_of_stride_4_to_those_who_ask():
    torch.manual_seed(0)
    network = ResNet((1, 1, 1, 1)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        four, three = network.stage_maps(images), network(images)
    assert four[0].shape == (1, 256, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(four[1:], three, strict=True))


def test_a_pyramid_adds_coarse_maps_to_finer_ones():
    torch.manual_seed(0)
    pyramid = Pyramid((2, 3), 4)
    fine, coarse = torch.randn(1, 2, 4, 6), torch.randn(1, 3, 2, 3)
    outputs = pyramid((fine, coarse))
    top = pyramid.inner[1](coarse)
    doubled = top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(outputs[0], pyramid.outer[0](pyramid.inner[0](fine) + doubled))
    torch.testing.assert_close(outputs[1], pyramid.outer[1](top))
    torch.testing.assert_close(outputs[2], outputs[1][:, :, ::2, ::2])
    assert F.conv2d(fine, pyramid.inner[0].weight).shape == outputs[0].shape


def test_a_csp_backbone_may_end_with_its_third_stage():
    trunk = Trunk(replace(CONFIGURATIONS["frcnn-vgg-small"]))
    assert trunk.channels == 256
    assert len(trunk.backbone.stages) == 3
    assert len(Trunk(FRCNN_SMALL).backbone.stages) == 4
