"""Words that users of other trackers know for our flags and verbs."""

from __future__ import annotations

from collections.abc import Collection

VERBS = {
    "predict": "track",
    "detect": "track",
    "val": "eval",
    "score": "eval",
    "benchmark": "bench",
}
_FLAGS = {
    "--model": "--weights",
    "--yolo-model": "--weights",
    "--tracker": "--association",
    "--tracking-method": "--association",
    "--reid-model": "--reid",
    "--project": "--out",
    "--name": "--out",
    "--output": "--out",
    "--save": "--save-video",
    "--save-vid": "--save-video",
    "--show": "--save-video",
    "--save-txt": "--save-mot",
    "--max-det": "--max-detections",
    "--half": "--precision",
    "--batch": "--chunk-frames",
    "--line": "--config",
    "--zone": "--config",
}
_WITHOUT_FLAG = {
    "--source": "sources stand without a flag",
    "--classes": "people are the only class",
}


def meant(flag: str, known: Collection[str]) -> str:
    """What a flag of another tool was meant to be, for a message; empty if that is not known.

    Args:
        flag: As it was typed, with dashes.
        known: Flags that the verb has.

    >>> meant("--model", {"--weights"}), meant("--model", {"--out"}), meant("--classes", {})
    ('did you mean --weights?', '', 'people are the only class')
    """
    flag = flag.replace("_", "-")
    if flag in _WITHOUT_FLAG:
        return _WITHOUT_FLAG[flag]
    return f"did you mean {_FLAGS[flag]}?" if _FLAGS.get(flag) in known else ""
