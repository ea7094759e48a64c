"""`--print-config`: the settings that a call would use, as a file that `--config` takes.

Settings that were given, by flags, variables or a file, are lines of YAML; the others are comments
with their defaults. So the file sets what the call sets, and no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

import yaml

from jde_ray.jobs.console.flags import Flag
from jde_ray.jobs.console.options import AUTO_SIZE, Values, place_of
from jde_ray.jobs.console.runner import variable_prefix


def describe_environment(verb: str, settings: Iterable[str]) -> list[str]:
    """Comments that name the verb's variables, and those that are misspelt.

    Args:
        verb: Name of the verb.
        settings: Names of its parameters.
    """
    prefix = variable_prefix(verb)
    known = {f"{prefix}_{name.upper()}" for name in settings}
    found = sorted(name for name in os.environ if name.startswith(f"{prefix}_"))
    lines = []
    if used := [name for name in found if name in known]:
        lines.append(f"# in the environment (flags win): {', '.join(used)}")
    if unknown := [name for name in found if name not in known]:
        lines.append(f"# in the environment, but no setting of jde {verb}: {', '.join(unknown)}")
    return lines


def describe_run(values: Values, flags: Mapping[str, Flag]) -> list[str]:
    """Lines of the settings of a run: given ones as YAML, the defaults of the others as comments.

    Args:
        values: The given ones.
        flags: The settings with a name of their own.
    """
    left, lines = dict(values), []
    chosen_by_video = left.pop(AUTO_SIZE, False)
    for name, flag in flags.items():
        spelled = name.replace("_", "-")
        if name == "size" and chosen_by_video:
            lines.append(_yaml({spelled: "auto"}))
        elif (place := place_of(flag)) in left:
            lines.append(_yaml({spelled: _plain(flag.field, left.pop(place))}))
        else:
            lines.append(f"# {spelled}: {_default(flag)}")
    sections: dict[str, dict[str, Any]] = {}
    for (section, field), value in left.items():
        sections.setdefault(section, {})[field] = _plain(field, value)
    return lines + [_yaml({name: settings}) for name, settings in sections.items()]


def describe_service(
    args: Mapping[str, Any], door: Mapping[str, Any], flags: Mapping[str, Flag], config: Any
) -> list[str]:
    """Lines of a file for `jde serve --config` and `serve deploy`.

    Args:
        args: Arguments of the service that were given.
        door: Host and port.
        flags: Settings with a flag, by their places in the arguments, such as `track.tracking.x`.
        config: A `ServeConfig` with the defaults.
    """
    application = {"name": "jde", "import_path": "jde_ray.pipelines.serving.deployments:build"}
    file = {"http_options": dict(door), "applications": [{**application, "args": dict(args)}]}
    defaults = {place: _default(flag) for place, flag in flags.items()}
    own = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    for hidden in ("track", "limits", "build_model", "leaving_file"):
        del own[hidden]
    own |= {f"limits.{one.name}": getattr(config.limits, one.name) for one in fields(config.limits)}
    defaults = {place: _text(value) for place, value in own.items()} | defaults
    unset = [f"# {place}: {text}" for place, text in defaults.items() if not _is_in(args, place)]
    return [*yaml.safe_dump(file, sort_keys=False).splitlines(), *unset]


def _is_in(args: Any, place: str) -> bool:
    for name in place.split("."):
        if not isinstance(args, Mapping) or name not in args:
            return False
        args = args[name]
    return True


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, width=10_000).rstrip()


def _plain(field: str, value: Any) -> Any:
    return "x".join(map(str, value)) if field == "size" else value


def _default(flag: Flag) -> str:
    if flag.default is not None:
        return flag.default
    setting = next(one for one in fields(flag.config) if one.name == flag.field)
    return "" if setting.default is MISSING else _text(setting.default)


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).split("\n")[0]
