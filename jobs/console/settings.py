"""Checks the weights before a verb runs a network."""

from __future__ import annotations

from jde_ray.jobs.console.options import Settings, Values, build_settings
from jde_ray.pipelines.config import DetectionConfig
from jde_ray.pipelines.errors import ExitCode, RunError


def check_weights(values: Values) -> Settings:
    """Build the configurations, with the hash of the weights and, unless given, their size.

    Raises:
        RunError: If the weights cannot be used, or not with the settings given.
    """
    place = ("detection", "weights")
    weights = values.get(place, DetectionConfig().weights)
    from jde_ray.pipelines.detection.networks import is_separate
    from jde_ray.pipelines.detection.settings import inspect

    try:
        facts = inspect(weights, values.get(("detection", "size")))
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if values.get(("detection", "compile")) and is_separate(weights):
        raise RunError(
            f"compile: got {weights}, which names ONNX files; expected weights of one network",
            ExitCode.REFUSED,
        )
    rect = ("detection", "rect")
    if values.get(rect) and facts.has_one_size:
        raise RunError(
            f"rect: got {weights}, whose anchors were chosen for one size; expected --no-rect",
            ExitCode.REFUSED,
        )
    chosen: Values = {("detection", "size"): facts.size, rect: facts.rect}
    return build_settings(chosen | values | {("detection", "weights_sha256"): facts.sha256})
