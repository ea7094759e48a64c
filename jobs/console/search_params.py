"""Parses `--param NAME=VALUES` of `jde tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from jde_ray.jobs.console.options import place_of
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.evaluation.search_space import Setting, Space, Span


def parse_space(params: list[str]) -> Space:
    """The values to try of each setting.

    Args:
        params: `NAME=A,B,C`, `NAME=LOW:HIGH` or `NAME=LOW:HIGH:STEPS`, in which NAME is a flag of
            `jde track` or a field of the association's settings.

    Raises:
        RunError: If one is not of this form, or its flag does not set the association.
    """
    space: dict[str, Span | list[Setting]] = {}
    for text in params:
        name, _, values = text.partition("=")
        key = name.strip().replace("-", "_")
        section, field = place_of(FLAGS[key]) if key in FLAGS else ("tracking", key)
        if section != "tracking" or field == "association":
            raise RunError(
                f"param: got {name!r}, expected settings of the association", ExitCode.REFUSED
            )
        space[field] = _values(text, values)
    return space


def _values(text: str, values: str) -> Span | list[Setting]:
    from jde_ray.pipelines.evaluation.search_space import Span

    wanted = f"param: got {text!r}, expected NAME=LOW:HIGH, NAME=LOW:HIGH:STEPS or NAME=A,B,C"
    parts = [_value(part) for part in values.split(":")]
    if len(parts) == 1:
        listed = [_value(part) for part in values.split(",")]
        if "" in listed:
            raise RunError(wanted, ExitCode.REFUSED)
        return listed
    low, high, steps = (*parts, 5)[:3] if len(parts) in (2, 3) else ("", "", "")
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
    if not (numbers and isinstance(steps, int) and steps >= 2 and low < high):  # type: ignore[operator]
        raise RunError(wanted, ExitCode.REFUSED)
    return Span(cast("float", low), cast("float", high), steps)


def _value(text: str) -> Setting:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
