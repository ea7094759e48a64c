"""Checks the weights before a verb runs a network."""

from __future__ import annotations

from typing import Any

from jde_ray.jobs.console.options import Settings, Values, build_settings
from jde_ray.pipelines.config import DetectionConfig
from jde_ray.pipelines.errors import ExitCode, RunError


def check_weights(values: Values) -> Settings:
    """Build the configurations, with the hash of the weights and, unless given, their size.

    Raises:
        RunError: If the weights cannot be used, or not with the settings given.
    """
    from jde_ray.pipelines.detection.settings import detection_for

    def given(name: str, default: Any = None) -> Any:
        return values.get(("detection", name), default)

    try:
        chosen = detection_for(
            given("weights", DetectionConfig().weights),
            given("size"),
            rect=given("rect"),
            compile=bool(given("compile")),
        )
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    names = ("size", "rect", "weights_sha256")
    resolved: Values = {("detection", name): getattr(chosen, name) for name in names}
    return build_settings(values | resolved)
