"""Checks the weights before a verb runs a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jde_ray.jobs.console.options import Settings, Values, build_settings
from jde_ray.models import cards
from jde_ray.models.jde import hub
from jde_ray.pipelines.config import DetectionConfig
from jde_ray.pipelines.errors import ExitCode, RunError


def check_weights(values: Values, *, chooses_size: bool = False) -> Settings:
    """Build the configurations, with the hash of the weights and, unless given, their size.

    Args:
        values: Settings that were given.
        chooses_size: Whether the verb can choose a size for each video.

    Raises:
        RunError: If the weights cannot be used, or not with the settings given.
    """
    refuse_missing(values)
    from jde_ray.pipelines.detection.settings import detection_for

    def given(name: str, default: Any = None) -> Any:
        return values.get(("detection", name), default)

    if given("auto_size") and not chooses_size:
        raise RunError("size: got auto, which is for jde track; expected WxH", ExitCode.REFUSED)
    try:
        chosen = detection_for(
            given("weights", DetectionConfig().weights),
            given("size"),
            rect=given("rect"),
            compile=bool(given("compile")),
            reid=given("reid", DetectionConfig().reid),
            auto_size=bool(given("auto_size")),
        )
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    mode = given("reid_mode", "always")
    if mode != "always" and not chosen.second_look:
        raise RunError(f"reid-mode: got {mode}, expected --reid with it", ExitCode.REFUSED)
    names = ("size", "rect", "weights_sha256", "reid", "reid_sha256")
    resolved: Values = {("detection", name): getattr(chosen, name) for name in names}
    return build_settings(values | resolved)


def refuse_missing(values: Values) -> None:
    """Refuse weights that do not exist, before torch is imported, which takes seconds.

    Raises:
        RunError: If the weights are neither a file nor a shipped model.
    """
    weights = str(values.get(("detection", "weights"), DetectionConfig().weights))
    if hub.is_on_hub(weights):
        try:
            hub.parse(weights)
        except ValueError as error:
            raise RunError(str(error), ExitCode.REFUSED) from error
        return
    if not Path(weights).is_file() and cards.JOINT.find(weights) is None:
        raise RunError(cards.JOINT.unknown(weights), ExitCode.REFUSED)
