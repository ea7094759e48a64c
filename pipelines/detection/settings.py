"""Settings of a detector that follow from its weights and the machine."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral

from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.tracking.registry import check_embedder
from jde_ray.pipelines.config import (
    DetectionConfig,
    Device,
    Precision,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.devices import check_gpu, torch_device
from jde_ray.pipelines.detection.networks import ModelBuilder, load_network
from jde_ray.pipelines.detection.precision import quick_precision, warn_of_emulation
from jde_ray.pipelines.detection.second_look import KEY_FRAMES
from jde_ray.pipelines.detection.weights import (
    embedder_sha256,
    fingerprint,
    inspect,
    inspect_reid,
    only_precision,
    reid_fingerprint,
)
from jde_ray.pipelines.errors import ExitCode, RunError


def _check_pair(size: object) -> None:
    """Refuse a size that is not two whole numbers."""
    is_pair = isinstance(size, (tuple, list)) and len(size) == 2
    if not is_pair or not all(isinstance(side, Integral) for side in size):  # type: ignore[attr-defined]
        raise ValueError(f"size: got {size!r}, expected (WIDTH, HEIGHT) in pixels")


def detection_for(
    weights: str = DEFAULT_WEIGHTS,
    size: tuple[int, int] | None = None,
    *,
    rect: bool | None = None,
    compile: bool = False,  # noqa: A002 - the field's name
    reid: str = "auto",
    auto_size: bool = False,
) -> DetectionConfig:
    """Settings for weights, equal to those of `jde track --weights WEIGHTS`.

    Args:
        weights: Weights in the form of `DetectionConfig.weights`.
        size: Width and height of the frames; None for the size in the weights.
        rect: Whether the input follows each video's shape; None for the default of the weights.
        compile: Run the network through `torch.compile`.
        reid: What describes people beside the weights, as `DetectionConfig.reid`.
        auto_size: Choose a size for each video, from `size` up.

    Raises:
        ValueError: If the weights cannot be used, or not with these settings.
        OSError: If a file cannot be read.
    """
    if size is not None:
        _check_pair(size)
    facts = inspect(weights, size)
    if compile and not facts.can_compile:
        raise ValueError(
            f"compile: got {weights}, which is not a joint network of one stage; expected one"
        )
    if rect and facts.has_one_size:
        raise ValueError(
            f"rect: got {weights}, whose anchors were chosen for one size; expected --no-rect"
        )
    if auto_size and facts.has_one_size:
        raise ValueError(f"size: got auto for {weights}, whose anchors were chosen for one size")
    chosen = DetectionConfig(
        weights=weights,
        size=facts.size,
        auto_size=auto_size,
        rect=facts.rect if rect is None else rect,
        compile=compile,
        weights_sha256=facts.sha256,
        reid=reid,
    )
    look = chosen.second_look
    return replace(chosen, reid=look or "none", reid_sha256=inspect_reid(look) if look else "")


def resolve_precision(
    detection: DetectionConfig, device: Device, recorded: Precision | None = None
) -> DetectionConfig:
    """Replace the precision `auto` by the one in which the network will run.

    ONNX files run in float32. Otherwise `auto` becomes `recorded`, so that a run can continue on
    another machine, or without `recorded` the fast precision of this machine. In `int8` the
    fingerprint of the weights is that of the quantised file beside them, and the fingerprint of
    the second look's network covers its quantised file, if it has one.

    Args:
        detection: Settings given by the user.
        device: Device that the network runs on.
        recorded: Precision of the run in OUT, see `run_record.recorded_precision`.

    Raises:
        ValueError: If ONNX files are to run in another precision, or there is no quantised file of
            these weights for `int8`, or the device is a GPU.
    """
    if (only := only_precision(detection.weights)) is not None:
        if detection.precision not in ("auto", only):
            raise ValueError(
                f"precision: got {detection.precision}, ONNX files run in {only}; expected auto | "
                f"{only}"
            )
        return replace(detection, precision=only)
    warn_of_emulation(detection.precision, device)
    if detection.precision == "auto":
        detection = replace(detection, precision=recorded or quick_precision(device))
    if detection.precision == "int8":
        detection = replace(detection, weights_sha256=_quantised_sha256(detection.weights, device))
        if detection.looks_again:
            look = reid_fingerprint(detection.second_look, quantised=True)
            detection = replace(detection, reid_sha256=look)
    return detection


def _quantised_sha256(weights: str, device: Device) -> str:
    from jde_ray.models import openvino_files
    from jde_ray.models.jde import int8

    if torch_device(device) == "cuda":
        raise ValueError(f"precision: int8 runs on a CPU, got device {device}; use --device cpu")
    path = int8.find(weights)
    int8.check(path, weights)
    return openvino_files.sha256(path)


def resolve_settings(
    config: TrackConfig,
    build_model: ModelBuilder,
    resources: ResourceConfig,
    recorded: Precision | None = None,
) -> TrackConfig:
    """Fill in the settings that guard OUT: fingerprint of the weights and precision.

    Args:
        config: Settings given by the user.
        build_model: Model builder; weights are read only for the default, `load_network`.
        resources: Device and cluster of the run.
        recorded: Precision of the run in OUT; None for a new OUT.

    Raises:
        RunError: If the weights do not exist or cannot run in that precision, the association has
            learned from another network, or a local run asks for a GPU that this machine does not
            have (2).
    """
    detection = config.detection
    is_ours = build_model is load_network
    try:
        if is_ours and not detection.weights_sha256:
            detection = replace(detection, weights_sha256=fingerprint(detection.weights))
        if is_ours and (look := detection.second_look) and not detection.reid_sha256:
            detection = replace(detection, reid=look, reid_sha256=reid_fingerprint(look))
        _check_device(resources)
        _check_chunks(detection, resources)
        if is_ours:
            detection = resolve_precision(detection, resources.device, recorded)
        check_embedder(config.tracking, embedder_sha256(detection))
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if detection.precision == "auto":
        chosen = recorded or quick_precision(resources.device)
        detection = replace(detection, precision=chosen)
    return replace(config, detection=detection)


def _check_chunks(detection: DetectionConfig, resources: ResourceConfig) -> None:
    if not detection.looks_again or detection.reid_mode != "needed":
        return
    if resources.chunk_frames % KEY_FRAMES:
        raise ValueError(
            f"chunk-frames: got {resources.chunk_frames}, expected a multiple of {KEY_FRAMES} with"
            " --reid-mode needed"
        )


def _check_device(resources: ResourceConfig) -> None:
    if resources.address != "local":
        return
    try:
        check_gpu(resources.device)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
