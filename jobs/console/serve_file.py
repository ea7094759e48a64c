"""The YAML file of `jde serve --config`: arguments of the service, or a whole file of Ray Serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jde_ray.pipelines.errors import ExitCode, RunError


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments in a YAML file, and `host` and `port` if it is a whole one of Serve.

    The arguments are its `args`, those of its application, or all of it. What else a file of Serve
    holds is named on standard error: it counts for `serve deploy` only.

    Raises:
        RunError: If the file is missing, no mapping, or holds several applications.
    """
    from jde_ray.models.settings_file import read_yaml

    try:
        content = read_yaml(path)
    except ValueError as error:
        raise RunError(f"config: {error}", ExitCode.REFUSED) from error
    http: dict[str, Any] = {}
    if isinstance(content, dict) and content.get("applications"):
        content, http = _read_serve_file(path, content)
    elif isinstance(content, dict) and "args" in content:
        content = content["args"]
    if content is None:
        return {}, http
    if not isinstance(content, dict):
        raise RunError(f"config: {path} holds no mapping of settings", ExitCode.REFUSED)
    return content, http


def _read_serve_file(path: Path, content: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    applications = content["applications"]
    if not isinstance(applications, list) or len(applications) != 1:
        raise RunError(f"config: {path} holds several applications, expected one", ExitCode.REFUSED)
    options, application = content.get("http_options") or {}, applications[0]
    if not isinstance(options, dict) or not isinstance(application, dict):
        raise RunError(f"config: {path} is not a Ray Serve file", ExitCode.REFUSED)
    http = {name: options[name] for name in ("host", "port") if name in options}
    for name, kind in (("host", str), ("port", int)):
        if name in http and type(http[name]) is not kind:
            text = f"config: {name} of {path}: got {http[name]!r}, expected a {kind.__name__}"
            raise RunError(text, ExitCode.REFUSED)
    unused = [str(name) for name in content.keys() - {"applications", "http_options"}]
    unused += [f"http_options.{name}" for name in options.keys() - http.keys()]
    unused += [f"applications.{name}" for name in application.keys() - {"args", "name"}]
    if unused:
        names = ", ".join(sorted(unused))
        text = f"jde: note: not used of {path}, it counts for serve deploy: {names}"
        print(text, file=sys.stderr, flush=True)
    return application.get("args") or {}, http
