"""Reading YAML files of settings; every fault of a file is reported in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        ValueError: If it is missing or not YAML, in one line that names the file.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001  of a bad date, tag or depth PyYAML raises others'
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, RecursionError):
            reason = "nested too deeply"
        raise ValueError(f"{path} cannot be read ({reason})") from None
