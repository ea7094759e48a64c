"""Reading YAML files of settings; every fault of a file is reported in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        ValueError: If it is missing or not YAML, or has a key twice, in one line that names the
            file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        twin = _twin(yaml.compose(text, yaml.SafeLoader))
        values = yaml.safe_load(text)
    except Exception as error:  # noqa: BLE001  of a bad date, tag or depth PyYAML raises others'
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, RecursionError):
            reason = "nested too deeply"
        raise ValueError(f"{path} cannot be read ({reason})") from None
    if twin is not None:  # YAML keeps the last one without a word
        raise ValueError(f"{twin.value}: got it twice, expected once ({path}:{_line(twin)})")
    return values


def _twin(root: yaml.Node | None) -> yaml.ScalarNode | None:
    """A key that its mapping has twice, at the second place; None if there is none."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias; it may be inside what it stands for
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                waiting += [key, value]
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in keys:
                        return key
                    keys.add((key.tag, key.value))
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
