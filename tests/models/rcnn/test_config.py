from dataclasses import replace

import pytest
import torch

from jde_ray.models.backbones.vgg import Vgg16
from jde_ray.models.rcnn.config import CONFIGURATIONS, FRCNN_SMALL, RcnnConfig
from jde_ray.models.rcnn.weights import empty


def number(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=lambda c: c.name)
def test_a_file_says_what_the_network_is(config):
    assert RcnnConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("frcnn-r50", 41_299_161), ("cascade-r50", 69_098_721), ("frcnn-vgg16", 136_689_024)],
)
def test_networks_have_the_published_numbers_of_parameters(name, parameters):
    assert number(empty(CONFIGURATIONS[name])) == parameters


def test_the_parts_of_faster_r_cnn_have_theirs():
    network = empty(CONFIGURATIONS["frcnn-r50"])
    assert number(network.backbone) == 23_454_912
    assert number(network.trunk.pyramid) == 3_344_384
    assert number(network.rpn) == 593_935
    assert number(network.stages) == 13_905_930
    with torch.device("meta"):
        assert number(Vgg16()) == 14_714_688


def test_a_third_output_of_the_last_stage_makes_the_joint_network():
    detector, joint = (empty(CONFIGURATIONS[name]) for name in ("frcnn-r50", "jde-frcnn-r50"))
    assert number(joint) - number(detector) == 1024 * 256 + 256


def test_what_does_not_fit_together_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"backbone: got 'vgg19', expected resnet50 \|"):
        replace(FRCNN_SMALL, backbone="vgg19")
    with pytest.raises(ValueError, match="pyramid_channels: got 96, csp16 takes 0"):
        replace(FRCNN_SMALL, backbone="csp16")
    with pytest.raises(ValueError, match=r"anchor_sizes: .* strides \(8, 16, 32, 64\)"):
        replace(FRCNN_SMALL, anchor_sizes=((16.0,),))
    with pytest.raises(ValueError, match=r"size: got .*, expected multiples of 32"):
        replace(FRCNN_SMALL, size=(570, 320))
    with pytest.raises(ValueError, match="roi, scored_boxes"):
        replace(FRCNN_SMALL, roi="mean")
    with pytest.raises(ValueError, match="stages, num_classes, embedding_dim: got 0"):
        replace(FRCNN_SMALL, stages=())
    for text in ("{}", "[]", FRCNN_SMALL.to_json().replace("aspects", "ratios")):
        with pytest.raises(ValueError, match="network configuration"):
            RcnnConfig.from_json(text)
