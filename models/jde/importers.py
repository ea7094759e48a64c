"""Loading other projects' weight files into our modules: published JDE, Darknet, torchvision.

Shapes must match exactly, and a report lists the tensors that were taken and left. Layers are
numbered as in the published checkpoints (`module_list.{i}`), which is also the order of Darknet
files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.backbones.darknet import STAGES, DarkNet53
from jde_ray.models.backbones.resnet import ResNet
from jde_ray.models.jde.checkpoint import (
    check_keys,
    looks_like_darknet,
    read_pickle,
)
from jde_ray.models.jde.nanodet import read_nanodet
from jde_ray.models.jde.refusals import CheckpointError

HEAD_LAYERS = (  # per stride 32, 16, 8: trunk, hidden box layer, box, embedding; detection layer
    ((75, 76, 77, 78, 79), 80, 81, 83, 85),
    ((90, 91, 92, 93, 94), 95, 96, 98, 100),
    ((105, 106, 107, 108, 109), 110, 111, 113, 115),
)
REDUCE_LAYERS = (87, 102)
TASK_WEIGHTS = ("s_c", "s_r", "s_id")
# Darknet versions 0.1 and 0.2: major, minor, revision, images seen as one word or two
HEADER_BYTES = {1: 16, 2: 20}
STATISTICS = ("bias", "weight", "running_mean", "running_var")  # in the order of Darknet files


@dataclass(frozen=True)
class ImportReport:
    """Tensors of a file that were taken and left.

    Attributes:
        taken: Number of tensors that went into the network.
        left: One text for each thing that was left out.
    """

    taken: int
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.taken} tensors taken; left out: {', '.join(self.left) or 'none'}"


@dataclass(frozen=True)
class Layer:
    """A convolution: its number in published files, its modules' names, whether it has a norm."""

    index: int
    conv: str
    norm: str | None


def backbone_layers() -> Iterator[Layer]:
    """The 52 convolutions of Darknet-53, layers 0 to 74."""
    yield Layer(0, "backbone.stem.0", "backbone.stem.1")
    index = 1
    for stage, (_, units) in enumerate(STAGES):
        name = f"backbone.stages.{stage}"
        yield Layer(index, f"{name}.0.0", f"{name}.0.1")
        index += 1
        for unit in range(1, units + 1):
            for offset, part in enumerate(("reduce", "expand")):
                prefix = f"{name}.{unit}.{part}"
                yield Layer(index + offset, f"{prefix}.0", f"{prefix}.1")
            index += 3  # two convolutions and the sum, which has a number too


def published_layers() -> list[Layer]:
    """All 78 convolutions of the published network, by number."""
    layers = list(backbone_layers())
    for scale, (trunk, hidden, box, embedding, _) in enumerate(HEAD_LAYERS):
        name = f"neck.trunks.{scale}"
        layers += [Layer(i, f"{name}.{n}.0", f"{name}.{n}.1") for n, i in enumerate(trunk)]
        head = f"heads.{scale}"
        layers.append(Layer(hidden, f"{head}.box_hidden.0", f"{head}.box_hidden.1"))
        layers.append(Layer(box, f"{head}.box", None))
        layers.append(Layer(embedding, f"{head}.embedding", None))
    for scale, index in enumerate(REDUCE_LAYERS):
        layers.append(Layer(index, f"neck.reduce.{scale}.0", f"neck.reduce.{scale}.1"))
    return sorted(layers, key=lambda layer: layer.index)


def published_names() -> dict[str, str]:
    """Map keys of a published checkpoint to keys of our state dict; unused ones are absent."""
    names = {}
    for layer in published_layers():
        start = f"module_list.{layer.index}"
        names[f"{start}.conv_{layer.index}.weight"] = f"{layer.conv}.weight"
        if layer.norm is None:
            names[f"{start}.conv_{layer.index}.bias"] = f"{layer.conv}.bias"
            continue
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"{start}.batch_norm_{layer.index}.{leaf}"] = f"{layer.norm}.{leaf}"
    return names


def published_state(
    path: Path, state: dict[str, Any], wanted: dict[str, Tensor]
) -> tuple[dict[str, Tensor], ImportReport]:
    """Our state dict from the `model` entry of a published checkpoint.

    The classifier of training identities (`published_classifier` reads it) and the loss's task
    weights are left out: inference does not use them. `num_batches_tracked` may be missing.

    Args:
        path: Path of the file, for error messages.
        state: The file's entry `model`.
        wanted: `JDE(config).state_dict()` of a Darknet-53 configuration.

    Raises:
        CheckpointError: Naming the first wrong key as the file spells it.
    """
    names = published_names()
    expected = {theirs: wanted[ours] for theirs, ours in names.items()}
    left = []
    rest = dict(state)
    tasks = [f"module_list.{i}.yolo_{i}.{s}" for *_, i in HEAD_LAYERS for s in TASK_WEIGHTS]
    num_tasks = sum(rest.pop(key, None) is not None for key in tasks)
    if num_tasks:
        left.append(f"{num_tasks} task weights of the loss")
    classifier = [rest.pop(f"classifier.{leaf}", None) for leaf in ("weight", "bias")]
    if isinstance(classifier[0], Tensor):
        left.append(f"the classifier of {len(classifier[0])} training identities")
    counters = [k for k in expected if k.endswith("num_batches_tracked") and k not in rest]
    if counters:
        left.append(f"{len(counters)} absent num_batches_tracked, set to 0")
    rest |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
    check_keys(path, rest, expected)
    ours = {names[key]: value.to(expected[key].dtype) for key, value in rest.items()}
    return ours, ImportReport(len(ours) - len(counters), tuple(left))


def published_classifier(path: Path, num_identities: int, width: int) -> dict[str, Tensor]:
    """`weight` and `bias` of the identity classifier in a published checkpoint.

    Args:
        path: Published checkpoint.
        num_identities: Expected number of classes.
        width: Length of an embedding.

    Raises:
        CheckpointError: If the file holds no classifier, or one of another shape.
    """
    content = read_pickle(path).get("model")
    state = content if isinstance(content, dict) else {}
    shapes = {"weight": (num_identities, width), "bias": (num_identities,)}
    wanted = {f"classifier.{leaf}": torch.empty(s, device="meta") for leaf, s in shapes.items()}
    found = {key: value for key, value in state.items() if key in wanted}
    check_keys(path, found, wanted)
    return {leaf: found[f"classifier.{leaf}"].float() for leaf in shapes}


def read_darknet(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The numbers of a Darknet binary after its header of five 32-bit words (four in 0.1).

    Raises:
        CheckpointError: If the file has no Darknet header, or ends within a number.
    """
    data = path.read_bytes()
    if not looks_like_darknet(data[:8]):
        raise CheckpointError(
            f"weights: {path} is not a Darknet file (it starts with {data[:8].hex(' ')}, "
            "expected version 0.1 or 0.2)"
        )
    header = HEADER_BYTES[data[4]]
    if len(data) < header or (len(data) - header) % 4:
        raise CheckpointError(f"weights: {path} is cut off ({len(data)} bytes, a broken number)")
    return np.frombuffer(data, "<f4", offset=header)


def darknet_state(
    path: Path, layers: list[Layer], wanted: dict[str, Tensor], *, is_all: bool = False
) -> tuple[dict[str, Tensor], int]:
    """Our state dict from a Darknet binary, and how many numbers follow these layers.

    Args:
        path: Darknet file.
        layers: Convolutions in the order of the file.
        wanted: Our state dict, for names and shapes.
        is_all: Whether the file must end after these layers.

    Raises:
        CheckpointError: If the file ends early, naming the layer, or is too long.
    """
    stream = read_darknet(path)
    needed = sum(wanted[key].numel() for layer in layers for key in _darknet_keys(layer))
    if is_all and len(stream) > needed:
        raise CheckpointError(
            f"weights: {path} holds {len(stream) - needed} more numbers after "
            f"conv_{layers[-1].index}, the last layer of a published network"
        )
    state, used = {}, 0
    for layer in layers:
        for key in _darknet_keys(layer):
            shape = wanted[key].shape
            end = used + shape.numel()
            if end > len(stream):
                where = "inside" if used < len(stream) else "before"
                raise CheckpointError(
                    f"weights: {path} ends {where} conv_{layer.index} ({key}): it holds "
                    f"{len(stream)} numbers, expected {needed}"
                )
            state[key] = torch.from_numpy(stream[used:end].astype(np.float32)).view(shape)
            used = end
        if layer.norm is not None:
            state[f"{layer.norm}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    return state, len(stream) - used


def _darknet_keys(layer: Layer) -> list[str]:
    if layer.norm is None:
        return [f"{layer.conv}.bias", f"{layer.conv}.weight"]
    return [*(f"{layer.norm}.{leaf}" for leaf in STATISTICS), f"{layer.conv}.weight"]


def whole_darknet_state(
    path: Path, wanted: dict[str, Tensor]
) -> tuple[dict[str, Tensor], ImportReport]:
    """Our state dict from a `.weights` file of the complete published network.

    Raises:
        CheckpointError: If the file is shorter or longer than that network.
    """
    state, _ = darknet_state(path, published_layers(), wanted, is_all=True)
    check_keys(path, state, wanted)
    return state, ImportReport(len(state))


def load_backbone(model: Any, path: Path) -> ImportReport:
    """Load the weights of a backbone trained elsewhere.

    Args:
        model: Network whose backbone is filled.
        path: For Darknet-53, `darknet53.conv.74` or any Darknet file that starts with those 52
            convolutions; for a ResNet, a torchvision state dict (`fc` is left); for a CSP network,
            `nanodet.json` of NanoDet-g (neck and heads are left).

    Raises:
        CheckpointError: If the file does not fit the backbone, naming the first wrong key.
    """
    backbone = model.backbone
    if isinstance(backbone, DarkNet53):
        wanted = model.state_dict()
        state, extra = darknet_state(path, list(backbone_layers()), wanted)
        left: tuple[str, ...] = (f"{extra} numbers after layer 74",) if extra else ()
        return _fill(
            backbone, path, {k.removeprefix("backbone."): v for k, v in state.items()}, left
        )
    if isinstance(backbone, ResNet):
        content = read_pickle(path)
        left = tuple(k for k in content if k.startswith("fc."))
        rest = {k: v for k, v in content.items() if k not in left}
        for key in backbone.state_dict():
            if key.endswith("num_batches_tracked"):  # absent from files before torch 0.4.1
                rest.setdefault(key, torch.zeros((), dtype=torch.int64))
        return _fill(backbone, path, rest, left)
    if isinstance(backbone, CspNet):
        detector = read_nanodet(path)
        left = ("neck and heads of NanoDet-g",)
        own = backbone.state_dict()  # may lack the last stage
        state = {key: v for key, v in detector.backbone.state_dict().items() if key in own}
        return _fill(backbone, path, state, left)
    raise CheckpointError(
        f"weights: {path}: no importer for backbone {model.config.backbone!r}, "
        "expected csp, darknet53, resnet50, resnet101"
    )


def _fill(
    backbone: nn.Module, path: Path, state: dict[str, Any], left: tuple[str, ...]
) -> ImportReport:
    check_keys(path, state, backbone.state_dict())
    backbone.load_state_dict(state)
    return ImportReport(len(state), left)
