"""Other projects' weights in two-stage networks: backbones, and torchvision's detector of COCO.

Keys and shapes must match exactly. How torchvision feeds its detector differs from how it is fed
here, which costs some accuracy but no code: there the shorter side becomes 800 pixels and the
longer one 1333 at most, here frames are letterboxed to the network's size, with grey borders; there
pictures of a batch are padded with zeros. Colours (RGB in [0, 1], ImageNet's mean and deviation),
anchors and the deviations of the offsets (.1 .1 .2 .2, there written as weights 10 10 5 5) are the
same. Its detector samples boxes without the half pixel of `RcnnConfig.half_pixel`. For the same
pixels, torchvision 0.28 and the network read from its file gave the same boxes to 2e-5 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jde_ray.models.backbones.resnet import FrozenNorm, ResNet
from jde_ray.models.backbones.vgg import Vgg16
from jde_ray.models.jde.checkpoint import check_keys, read_pickle
from jde_ray.models.jde.importers import ImportReport
from jde_ray.models.jde.importers import load_backbone as load_csp
from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.rcnn.config import FRCNN_R50, RcnnConfig
from jde_ray.models.rcnn.network import RcnnNet

COCO_CLASSES = 91  # of torchvision's detector: background, person, 89 numbers, some of them unused
TORCHVISION = replace(FRCNN_R50, name="frcnn-r50-coco", num_classes=COCO_CLASSES, half_pixel=False)
_DETECTOR_KEY = "roi_heads.box_predictor.cls_score.weight"
_NAMES = (  # of torchvision's modules; newer versions wrap convolutions, hence the `.0`
    (r"backbone\.body\.", "trunk.backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?", r"trunk.pyramid.inner.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?", r"trunk.pyramid.outer.\1."),
    (r"rpn\.head\.conv\.(?:0\.0\.)?", "rpn.hidden."),
    (r"rpn\.head\.cls_logits\.", "rpn.score."),
    (r"rpn\.head\.bbox_pred\.", "rpn.box."),
    (r"roi_heads\.box_head\.(fc6|fc7)\.", r"stages.0.\1."),
    (r"roi_heads\.box_predictor\.cls_score\.", "stages.0.score."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "stages.0.box."),
)
_CLASSIFIER = {"classifier.0": "fc6", "classifier.3": "fc7"}  # of torchvision's VGG-16


def load_start(model: RcnnNet, path: Path) -> ImportReport:
    """Fill a network with what a file of another project has for it.

    Args:
        model: Network to fill.
        path: For a ResNet, a torchvision state dict (`fc` is left), or one of its Faster R-CNN with
            that backbone, of which a network of two classes takes background and person; for
            VGG-16, a torchvision state dict, whose first two `classifier` layers fill those of the
            first stage; for a CSP network, `nanodet.json` of NanoDet-g (neck and heads are left).

    Raises:
        CheckpointError: If the file does not fit, naming the first wrong key.
    """
    backbone = model.backbone
    if not isinstance(backbone, ResNet | Vgg16):
        return load_csp(model, path)
    content = read_pickle(path)
    if isinstance(backbone, Vgg16):
        return _load_vgg(model, path, content)
    if _DETECTOR_KEY in content:
        return _load_detector(model, path, content)
    left = tuple(key for key in content if key.startswith("fc."))
    state = {key: value for key, value in content.items() if key not in left}
    state = _without_counts(state)
    check_keys(path, state, backbone.state_dict())
    backbone.load_state_dict(state)
    return ImportReport(len(state), left)


def is_detector(path: Path) -> bool:
    """Whether a file of `torch.save` holds torchvision's Faster R-CNN.

    Raises:
        CheckpointError: If it is not a dictionary of tensors and plain values.
    """
    return _DETECTOR_KEY in read_pickle(path)


def read_detector(path: Path, config: RcnnConfig = TORCHVISION) -> tuple[RcnnNet, ImportReport]:
    """Torchvision's Faster R-CNN with ResNet-50, from its file for COCO.

    Args:
        path: `fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`, or a state dict of the same model.
        config: The network, with as many classes as the file.

    Raises:
        CheckpointError: If it is another file.
    """
    content = read_pickle(path)
    if _DETECTOR_KEY not in content:
        text = "expected torchvision's Faster R-CNN or a safetensors file of ours"
        raise CheckpointError(f"weights: {path} lacks {_DETECTOR_KEY}; {text}")
    with torch.device("meta"):
        model = RcnnNet(config)
    return model, _load_detector(model, path, content)


def _load_vgg(model: RcnnNet, path: Path, content: Mapping[str, Any]) -> ImportReport:
    stage = model.stages[0]
    state, left = {}, []
    for key, value in content.items():
        layer, _, leaf = key.rpartition(".")
        if layer in _CLASSIFIER:
            state[f"stages.0.{_CLASSIFIER[layer]}.{leaf}"] = value
        elif layer.startswith("classifier."):
            left.append(key)
        else:
            state[f"trunk.backbone.{key}"] = value
    wanted = {
        f"trunk.backbone.{key}": value for key, value in model.backbone.state_dict().items()
    } | {
        f"stages.0.{key}": value
        for key, value in stage.state_dict().items()
        if key.startswith(("fc6.", "fc7."))
    }
    return _fill(model, path, state, wanted, tuple(left))


def _load_detector(model: RcnnNet, path: Path, content: Mapping[str, Any]) -> ImportReport:
    state: dict[str, Any] = {}
    for key, value in _without_counts(content).items():
        name = key
        for pattern, ours in _NAMES:
            name, found = re.subn(f"^{pattern}", ours, name)
            if found:
                break
        state[name] = value
    left: tuple[str, ...] = ()
    wanted = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith("stages.0.embedding.")
    }
    wide = state.get("stages.0.score.weight")
    if model.config.num_classes == 2 and isinstance(wide, Tensor) and len(wide) > 2:
        left = (f"{len(wide) - 2} of {len(wide)} classes",)
        for kind, rows in (("score", 2), ("box", 8)):
            for leaf in ("weight", "bias"):
                name = f"stages.0.{kind}.{leaf}"
                if isinstance(state.get(name), Tensor):
                    state[name] = state[name][:rows]
    if "backbone.fpn.inner_blocks.0.weight" in content:
        _expect_no_epsilon(state)
    return _fill(model, path, state, wanted, left)


def _expect_no_epsilon(state: dict[str, Any]) -> None:
    """Take from the variances what our norms add to them.

    Torchvision's published file, which has the older names, was trained without it.
    """
    for key, value in state.items():
        if key.endswith(".running_var") and isinstance(value, Tensor):
            state[key] = value - FrozenNorm.eps


def _without_counts(content: Mapping[str, Any]) -> dict[str, Any]:
    """The entries without the batches that norms have seen, which frozen norms do not hold."""
    return {k: v for k, v in content.items() if not k.endswith(".num_batches_tracked")}


def _fill(
    model: RcnnNet,
    path: Path,
    state: Mapping[str, Any],
    wanted: Mapping[str, Tensor],
    left: tuple[str, ...],
) -> ImportReport:
    check_keys(path, state, wanted)
    # a network without numbers yet takes the file's own tensors
    hollow = next(model.parameters()).is_meta
    model.load_state_dict(dict(state), strict=False, assign=hollow)
    return ImportReport(len(state), left)
