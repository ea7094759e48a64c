"""Settings of a detector that follow from its weights and the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jde_ray.pipelines.config import (
    DetectionConfig,
    Device,
    Precision,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.networks import (
    ModelBuilder,
    is_separate,
    load_network,
    quick_precision,
)
from jde_ray.pipelines.errors import ExitCode, RunError


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about weights that are known before a run.

    Attributes:
        size: Width and height of the frames in pixels.
        sha256: Fingerprint of the weight file, or of both ONNX files and their declaration.
        has_one_size: Frames of another size are refused: the anchors were chosen for this one.
        rect: Whether frames get each video's own shape by default: if no size was asked for and
            the weights take more than one.
    """

    size: tuple[int, int]
    sha256: str
    has_one_size: bool
    rect: bool


def inspect(weights: str, size: tuple[int, int] | None = None) -> NetworkFacts:
    """Load the weights once, so that their errors come before any other work.

    Args:
        weights: As `DetectionConfig.weights`.
        size: Of the frames, None for what the weights say.

    Raises:
        ValueError: If they cannot be used.
        OSError: If a file cannot be read.
    """
    if is_separate(weights):
        from jde_ray.models.sde.declaration import read_declaration
        from jde_ray.models.sde.network import SeparateNetworks

        declaration = read_declaration(weights)
        SeparateNetworks(declaration)
        frames, digest = size or declaration.frames, declaration.sha256()
        return NetworkFacts(frames, digest, has_one_size=False, rect=size is None)
    from jde_ray.models.jde.weights import load, sha256

    config = load(weights, size).config
    has_one_size = config.has_published_layout
    rect = size is None and not has_one_size
    return NetworkFacts(size or config.size, sha256(weights), has_one_size, rect)


def detection_for(
    weights: str = "small",
    size: tuple[int, int] | None = None,
    *,
    rect: bool | None = None,
    compile: bool = False,  # noqa: A002  the name of the field
) -> DetectionConfig:
    """Settings for weights, as `jde track --weights WEIGHTS` makes them.

    Args:
        weights: As `DetectionConfig.weights`.
        size: Of the frames, None for what the weights say.
        rect: Whether frames get each video's own shape, None for what suits the weights.
        compile: As `DetectionConfig.compile`.

    Raises:
        ValueError: If the weights cannot be used, or not with these settings.
        OSError: If a file cannot be read.
    """
    facts = inspect(weights, size)
    if compile and is_separate(weights):
        raise ValueError(
            f"compile: got {weights}, which names ONNX files; expected weights of one network"
        )
    if rect and facts.has_one_size:
        raise ValueError(
            f"rect: got {weights}, whose anchors were chosen for one size; expected --no-rect"
        )
    return DetectionConfig(
        weights=weights,
        size=facts.size,
        rect=facts.rect if rect is None else rect,
        compile=compile,
        weights_sha256=facts.sha256,
    )


def resolve_precision(
    detection: DetectionConfig, device: Device, recorded: Precision | None = None
) -> DetectionConfig:
    """Settings with the precision that the network will run in.

    ONNX files run in float32. `auto` becomes `recorded`, so that a run can be resumed on another
    machine; without it, what is fast on this machine.

    Args:
        detection: Settings as the user gave them.
        device: Where the network runs.
        recorded: Precision that OUT was begun with, see `run_record.recorded_precision`.

    Raises:
        ValueError: If ONNX files are asked to run in bf16.
    """
    if is_separate(detection.weights):
        if detection.precision == "bf16":
            raise ValueError("precision: got bf16, ONNX files run in theirs; expected auto | fp32")
        return replace(detection, precision="fp32")
    if detection.precision == "auto":
        return replace(detection, precision=recorded or quick_precision(device))
    return detection


def fingerprint(weights: str) -> str:
    """The fingerprint alone, without loading anything.

    Raises:
        ValueError: If there are no such weights.
    """
    if is_separate(weights):
        from jde_ray.models.sde.declaration import read_declaration

        return read_declaration(weights).sha256()
    from jde_ray.models.jde.weights import sha256

    return sha256(weights)


def resolve_settings(
    config: TrackConfig,
    build_model: ModelBuilder,
    resources: ResourceConfig,
    recorded: Precision | None = None,
) -> TrackConfig:
    """Fill in the settings that guard OUT: fingerprint of the weights and precision.

    Args:
        config: Settings as the user gave them.
        build_model: The weights are read only if this is `load_network`.
        resources: Where the run takes place.
        recorded: Precision that OUT was begun with, None for a new one.

    Raises:
        RunError: If there are no such weights, they cannot run in that precision, or there is no
            GPU here for a local run that asks for one (2).
    """
    detection = config.detection
    is_ours = build_model is load_network
    try:
        if is_ours and not detection.weights_sha256:
            detection = replace(detection, weights_sha256=fingerprint(detection.weights))
        _check_device(resources)
        if is_ours:
            detection = resolve_precision(detection, resources.device, recorded)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if detection.precision == "auto":
        chosen = recorded or quick_precision(resources.device)
        detection = replace(detection, precision=chosen)
    return replace(config, detection=detection)


def _check_device(resources: ResourceConfig) -> None:
    if resources.device != "cuda" or resources.address != "local":
        return
    import torch

    if not torch.cuda.is_available():
        raise RunError("device: got cuda, but this machine has no GPU; use cpu", ExitCode.REFUSED)
