"""A two-stage network as an ONNX file, for runtimes without torch."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.rcnn.anchors import decode
from jde_ray.models.rcnn.heads import average, person_scores
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.models.rcnn.proposals import LEAST_SIDE, AnchorOutputs
from jde_ray.models.rcnn.roi import BINS, POINTS, align, levels_of
from jde_ray.models.suppression import suppress

OPSET = 17


class _Survivors(torch.autograd.Function):
    """`(N,)` bool: which of `(N, 4)` boxes, in order of falling score, remain."""

    @staticmethod
    def forward(_: Any, tlbr: Tensor, scores: Tensor, threshold: float) -> Tensor:
        kept = torch.zeros(len(tlbr), dtype=torch.bool)
        kept[torch.from_numpy(suppress(tlbr.numpy(), threshold))] = True
        return kept

    @staticmethod
    def symbolic(g: Any, tlbr: Any, scores: Any, threshold: float) -> Any:
        def constant(value: Any) -> Any:
            return g.op("Constant", value_t=torch.as_tensor(value))

        boxes = g.op("Unsqueeze", tlbr, constant([0]))
        score = g.op("Unsqueeze", scores, constant([0, 1]))
        most = g.op("Shape", scores)
        found = g.op("NonMaxSuppression", boxes, score, most, constant([threshold]))
        rows = g.op("Gather", found, constant(2), axis_i=1)
        nothing = g.op("ConstantOfShape", most, value_t=torch.zeros(1))
        ones = g.op("ConstantOfShape", g.op("Shape", rows), value_t=torch.ones(1))
        marked = g.op("ScatterElements", nothing, rows, ones, axis_i=0)
        return g.op("Cast", marked, to_i=9)  # bool


class _Align(torch.autograd.Function):
    """`(R, C, 7, 7)` of `(R, 4)` boxes in cells of a `(1, C, H, W)` map, as `roi.align`."""

    @staticmethod
    def forward(_: Any, one: Tensor, tlbr: Tensor, shift: float) -> Tensor:
        first = torch.zeros(len(tlbr), dtype=torch.int64)
        return align([one], first, first, tlbr, shift)

    @staticmethod
    def symbolic(g: Any, one: Any, tlbr: Any, shift: float) -> Any:
        rows = g.op("Gather", g.op("Shape", tlbr), g.op("Constant", value_t=torch.tensor([0])))
        first = g.op("ConstantOfShape", rows, value_t=torch.zeros(1, dtype=torch.int64))
        return g.op(
            "RoiAlign",
            one,
            tlbr,
            first,
            coordinate_transformation_mode_s="half_pixel" if shift else "output_half_pixel",
            mode_s="avg",
            output_height_i=BINS,
            output_width_i=BINS,
            sampling_ratio_i=POINTS,
            spatial_scale_f=1.0,
        )


class _Graph(nn.Module):
    """The network for one picture, in operations that ONNX has; numbers as in `RcnnNet.forward`."""

    def __init__(self, model: RcnnNet) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`(1, P, 4)` corners, `(1, P, 1)` scores, and `(1, P, D)` vectors if there are any."""
        model, size = self.model, self.config.size
        features = model.features(images)
        tlbr, is_real = self.propose(model.anchor_outputs(features, size))
        scores = []
        entering = tlbr
        for head in model.stages:
            entering = tlbr
            outputs = head(self.pool(features, entering))
            tlbr = head.boxes(outputs, entering, size)  # type: ignore[operator]
            scores.append(person_scores(outputs.logits))
        if self.config.scored_boxes == "last":
            pooled = self.pool(features, entering)
            scores = [person_scores(head(pooled).logits) for head in model.stages]
        found = tlbr[None], (average(scores) * is_real)[None, :, None]
        if not self.config.embedding_dim:
            return found
        raw = model.stages[-1](self.pool(features, tlbr)).embedding
        return (*found, F.normalize(raw, dim=1, eps=1e-12)[None])

    def propose(self, found: AnchorOutputs) -> tuple[Tensor, Tensor]:
        """As `proposals.propose`: `(P, 4)` corners, and whether they fill nothing up."""
        config = self.config
        per_level, number = config.level_proposals[1], config.proposals[1]
        limits = [0, *np.cumsum(found.counts).tolist()]
        boxes, scores = [], []
        for start, end in pairwise(limits):
            best, rows = found.logits[0, start:end].topk(min(per_level, end - start))
            tlbr = decode(
                found.offsets[0, start:end][rows], found.anchors[start:end][rows], found.size
            )
            keep = (tlbr[:, 2:] - tlbr[:, :2]).amin(1) >= LEAST_SIDE
            keep = keep & _Survivors.apply(tlbr, best, config.proposal_nms)  # type: ignore[no-untyped-call]
            boxes.append(tlbr)
            scores.append(best.masked_fill(~keep, -1e30))
        tlbr, score = torch.cat(boxes), torch.cat(scores)
        best, rows = score.topk(min(number, len(score)))
        is_real = best > -1e30
        return tlbr[rows] * is_real[:, None], is_real

    def pool(self, features: list[Tensor], tlbr: Tensor) -> Tensor:
        """As `roi.pool` of the first picture."""
        config = self.config
        level = levels_of(config, tlbr)
        pooled = tlbr.new_zeros(len(tlbr), features[0].shape[1], BINS, BINS)
        for number, stride in enumerate(config.roi_strides):
            rows = torch.nonzero(level == number).squeeze(1)
            shift = 0.5 if config.half_pixel else 0.0
            part = _Align.apply(features[number], tlbr[rows] / stride, shift)  # type: ignore[no-untyped-call]
            pooled = pooled.index_put((rows,), part)
        return pooled


def write_onnx(model: RcnnNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a float32 ONNX file for one picture at the network's input size.

    Input `images` `(1, 3, H, W)` RGB in [0, 1]. Outputs, for as many boxes as the network proposes
    in use, the best proposal first: `boxes` `(1, P, 4)` corners in network pixels, `scores`
    `(1, P, 1)`, and for a joint network `embeddings` `(1, P, D)` of length 1. The suppression of
    proposals is part of the graph, that of the final boxes is left to the caller.

    Args:
        model: Network in float32.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence`; the configuration is added.

    Raises:
        ImportError: If `onnx` is not installed.
        ValueError: If the network pools by maxima, of which ONNX has another form.
    """
    import onnx

    config = model.config
    if config.roi != "align":
        raise ValueError(f"format: got {config.name}, which pools by maxima; expected another one")
    width, height = config.size
    names = ["boxes", "scores", *(["embeddings"] if config.embedding_dim else [])]
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the newer exporter needs one more package
        torch.onnx.export(
            _Graph(model).eval(),
            (torch.zeros(1, 3, height, width),),
            str(path),
            input_names=["images"],
            output_names=names,
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {**(notes or {}), "config": config.to_json()})
    onnx.save(graph, str(path))
