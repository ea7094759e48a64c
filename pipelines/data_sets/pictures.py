"""What a data set is read as: parts, which are converted one by one, and their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.label_files import LabelErrors

UNKNOWN = -1  # identity of a person whom nobody named
_LONGEST_NAME = 200

_FLAGS = {"classes": "class", "numbering": "identities"}  # of rules with other names

Numbering = Literal["original", "compact"]
Box = Literal["full", "visible"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which boxes are people, and how identities are numbered.

    None means that a data set has no such rule, since its annotations do not say.

    Attributes:
        min_height: Smallest height of a box in pixels.
        min_visible: Smallest visible share of a box.
        classes: Classes or labels of the original that are people.
        box: The whole person, also where hidden, or the visible part.
        numbering: `original` numbers people as the published lists do, with gaps; `compact` counts
            from 0 without them.

    Raises:
        ValueError: If a value is wrong.
    """

    min_height: float | None = None
    min_visible: float | None = None
    classes: tuple[str, ...] | None = None
    box: Box | None = None
    numbering: Numbering = "original"

    def __post_init__(self) -> None:
        if self.min_height is not None and not self.min_height >= 0:
            raise ValueError(f"min-height: got {self.min_height:g}, expected 0 or more")
        if self.min_visible is not None and not 0 <= self.min_visible <= 1:
            raise ValueError(f"min-visible: got {self.min_visible:g}, expected 0 to 1")

    def changed(self, name: str, values: Mapping[str, Any]) -> Rules:
        """These rules with other values.

        Args:
            name: Name of the data set, for messages.
            values: Values by the names of attributes; None for those that stay.

        Raises:
            ValueError: If the data set has no such rule, or a value is wrong.
        """
        given = {key: value for key, value in values.items() if value is not None}
        for key, value in given.items():
            if getattr(self, key) is None:
                has = ", ".join(_flag(k) for k, v in asdict(self).items() if v is not None)
                shown = ", ".join(value) if isinstance(value, tuple) else value
                got = f"got {shown} for {name}, whose annotations do not say"
                raise ValueError(f"{_flag(key)}: {got}; it has {has}")
        return replace(self, **given)


def _flag(rule: str) -> str:
    return _FLAGS.get(rule, rule.replace("_", "-"))


@dataclass(frozen=True)
class Part:
    """A sequence, video or split: what is converted whole or not at all.

    Attributes:
        name: Name, unique in the data set.
        lists: Lists that name its pictures.
        files: Files and folders it is read from; it is done again when one of them has changed. The
            first one is named in messages about all of it.
    """

    name: str
    lists: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Picture:
    """A picture and its people.

    Attributes:
        name: Where it is written, below OUT.
        image: Its file, or the bytes of one.
        tlwh: `(n, 4)` left, top, width, height in stored pixels; may leave the picture.
        identity: Original number of each person, `UNKNOWN` for none.
    """

    name: str
    image: Path | bytes
    tlwh: FloatArray
    identity: tuple[int, ...]


@dataclass
class Notes:
    """What is left out while a part is read.

    Attributes:
        problems: Wrong rows and files, which end a conversion without `--skip-bad`.
        left_out: Number of boxes left out by a rule, by reason.
    """

    problems: LabelErrors = field(default_factory=LabelErrors)
    left_out: Counter[str] = field(default_factory=Counter)


def plain_name(name: str) -> str:
    """A name from an annotation file, if it can be that of one file in one folder.

    Raises:
        ValueError: If it leads elsewhere, or cannot be written in a list.
    """
    is_plain = name.isprintable() and name == name.strip() and 0 < len(name) <= _LONGEST_NAME
    if not is_plain or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"got the name {name[:_LONGEST_NAME]!r}, expected that of one file")
    return name
