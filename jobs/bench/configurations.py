"""The networks that `jde bench network` measures: joint, two-stage and re-identification ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from jde_ray.models.jde.config import CONFIGURATIONS as _JOINT
from jde_ray.models.rcnn.config import CONFIGURATIONS as _TWO_STAGE
from jde_ray.models.reid.config import CONFIGURATIONS as _REID

if TYPE_CHECKING:
    import torch
    from torch import nn

    from jde_ray.models.rcnn.network import RcnnNet

JOINT, TWO_STAGE, REID = tuple(_JOINT), tuple(_TWO_STAGE), tuple(_REID)
NAMES = (*JOINT, *TWO_STAGE, *REID)


def build(name: str, precision: str, device: str, *, compiled: bool = False) -> nn.Module:
    """A network with random weights, ready for inference.

    Args:
        name: One of `NAMES`.
        precision: `fp32` or `bf16`.
        device: Device to run on.
        compiled: Run a joint network through `torch.compile`.
    """
    import torch

    torch.manual_seed(0)
    model = _empty(name).eval().to(device).requires_grad_(False)
    if name in JOINT:
        from jde_ray.models.jde.fusion import optimise

        return optimise(cast("Any", model), cast("Any", precision), compiled=compiled)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(torch.bfloat16) if precision == "bf16" else model


def _empty(name: str) -> nn.Module:
    if name in JOINT:
        from jde_ray.models.jde.network import JDE

        return JDE(_JOINT[name])
    if name in TWO_STAGE:
        from jde_ray.models.rcnn.network import RcnnNet

        return RcnnNet(_TWO_STAGE[name])
    from jde_ray.models.reid.network import ReidNet

    return ReidNet(_REID[name])


def giga_operations(name: str) -> float:
    """GFLOP per frame or crop, counted on the layers; a multiply-add is two operations.

    Two-stage networks are counted for as many boxes as they propose.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model: Any = _empty(name).eval()
        model.to("meta")  # including constants that are otherwise never created there
        width, height = model.config.size
        picture = torch.zeros(1, 3, height, width)
        if name in JOINT:
            model.maps(picture)
        elif name in TWO_STAGE:
            _look(model, picture)
        else:
            model(picture)
    return float(counter.get_total_flops()) / 1e9


def _look(model: RcnnNet, picture: torch.Tensor) -> None:
    """All layers of a two-stage network, each stage once for every proposal."""
    from jde_ray.models.rcnn.roi import BINS

    features = model.features(picture)
    model.anchor_outputs(features, (int(picture.shape[3]), int(picture.shape[2])))
    pooled = picture.new_zeros(model.config.proposals[1], features[0].shape[1], BINS, BINS)
    for stage in model.stages:
        stage(pooled)
