"""The shelves of shipped networks, and the YAML heads of their cards, in the form model hubs read.

A head has the hubs' keys (`license`, `library_name`, `pipeline_tag`, `datasets`, `metrics`,
`model-index`), and under `jde` what they have no key for. Needs no torch: the names are checked
before it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SUFFIX = ".safetensors"
INT8_SUFFIX = ".int8.xml"  # of quantised networks, `models.openvino_files`
SPEED_CLASSES = ("cpu", "gpu")  # the machine that a network is made for
_FENCE = "---"


@dataclass(frozen=True)
class Shelf:
    """The networks that a flag takes by name.

    Attributes:
        flag: The flag, without dashes.
        folder: Folder of their files and cards.
        unit: What their speed counts per second.
        others: Names that the flag takes besides, which need no file.
    """

    flag: str
    folder: Path
    unit: str
    others: tuple[str, ...] = ()

    def files(self) -> dict[str, Path]:
        """Weight files of the networks by name, sorted."""
        paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        return {path.name.removesuffix(SUFFIX): path for path in paths}

    def names(self) -> list[str]:
        """Names of the networks, sorted."""
        return list(self.files())

    def find(self, name: str) -> Path | None:
        """Weights of a network; None if none has the name."""
        return self.files().get(name)

    def unknown(self, name: str) -> str:
        """The line that refuses what is neither a file nor one of the names."""
        names = [*self.others, *self.names()]
        nearest = get_close_matches(name, names, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        listed = ", ".join(names) or "none"
        return (
            f"{self.flag}: {name} is neither a file nor a shipped model (shipped: {listed}){hint}"
        )

    def card(self, name: str) -> Card | None:
        """Card of a network; None if none has the name, or it has no card.

        Raises:
            ValueError: If the card lacks a fact.
        """
        path = self.folder / f"{name}.md"
        return _read_once(path, self.unit) if self.find(name) and path.is_file() else None

    def cards(self) -> list[Card]:
        """Cards of the networks, by name.

        Raises:
            ValueError: If a card is missing or lacks a fact, in one line.
        """
        return [read_card(self.folder / f"{name}.md", self.unit) for name in self.names()]


_MODELS = Path(__file__).parent
JOINT = Shelf("weights", _MODELS / "jde" / "pretrained", "frames")
DEFAULT_WEIGHTS = "open"  # of JOINT: the model that everybody may use
REID = Shelf("reid", _MODELS / "reid" / "pretrained", "crops", ("colours",))


@dataclass(frozen=True)
class Card:
    """Facts about a shipped network.

    Attributes:
        path: The card.
        name: Name, as the shelf's flag takes it.
        licence: Licence of the weights, as hubs spell it: `cc-by-nc-sa-3.0`.
        is_commercial: Whether the licence allows commercial use.
        parameters: Number of parameters.
        size: Width and height of the input that it was trained for, in pixels.
        speed_class: One of `SPEED_CLASSES`.
        per_second: Measured speed, in frames, or in crops of people.
        measured_on: The machine and precision of that speed.
        second_look: What to use beside it, as `--reid` takes it; empty for nothing.
        colours: Of a re-identification network: length of the part of its vectors that describes
            colours, see `models.sde.declaration`.
        unseen: What the scores are of: sequences that the network has not seen.
        scores: Scores in percent by metric, such as `MOTA`.
        files: SHA-256 of each of its files, 64 hex digits, by name.
    """

    path: Path
    name: str
    licence: str
    is_commercial: bool
    parameters: int
    size: tuple[int, int]
    speed_class: str
    per_second: float
    measured_on: str
    second_look: str
    colours: float
    unseen: str
    scores: Mapping[str, float]
    files: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights, as the card states it."""
        return self.files[self.name + SUFFIX]

    @property
    def int8_file(self) -> str:
        """Name of the quantised file; empty if none ships."""
        name = self.name + INT8_SUFFIX
        return name if name in self.files else ""

    @property
    def weights(self) -> Path:
        """Its weight file."""
        return self.path.with_suffix(SUFFIX)

    def damaged(self) -> list[str]:
        """Names of its files that are missing or have another SHA-256."""
        folder = self.path.parent
        return [name for name, digest in self.files.items() if _sha256(folder / name) != digest]


def read_card(path: Path, unit: str = "frames") -> Card:
    """The facts in the head of a card, NAME.md.

    Args:
        path: The card.
        unit: What its speed counts per second, `frames` or `crops`.

    Raises:
        ValueError: If it cannot be read or lacks a fact, in one line with the file.
    """
    head = read_head(path)
    try:
        own, (result,) = head["jde"], head["model-index"][0]["results"]
        width, height = (int(side) for side in str(own["size"]).split("x"))
        speed = own["speed"]
        card = Card(
            path=path,
            name=str(head["model-index"][0]["name"]),
            licence=str(head["license"]),
            is_commercial=bool(own["commercial"]),
            parameters=int(own["parameters"]),
            size=(width, height),
            speed_class=str(speed["class"]),
            per_second=float(speed[f"{unit}_per_second"]),
            measured_on=str(speed["measured_on"]),
            second_look=str(own.get("second_look", "")),
            colours=float(own.get("colours", 0.0)),
            unseen=str(result["dataset"]["name"]),
            scores={str(one["name"]): float(one["value"]) for one in result["metrics"]},
            files={str(name): str(digest) for name, digest in own["files"].items()},
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"card: {path} lacks {error.args[0]!r} in its head") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"card: the head of {path} has another form ({error})") from None
    if card.name != path.stem or card.name + SUFFIX not in card.files:
        raise ValueError(f"card: {path} is of {card.name}, expected {path.stem} and its file")
    if card.speed_class not in SPEED_CLASSES:
        expected = " | ".join(SPEED_CLASSES)
        raise ValueError(f"card: {path}: got class {card.speed_class}, expected {expected}")
    return card


_read_once = cache(read_card)


def read_head(path: Path) -> dict[str, Any]:
    """The YAML head of a card: what stands between its first two lines of `---`.

    Raises:
        ValueError: If there is none, in one line with the file.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        head = yaml.safe_load("\n".join(lines[: lines.index(_FENCE)])) if first == _FENCE else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"card: {path} has no head that can be read ({reason})") from None
    if not isinstance(head, dict):
        raise ValueError(f"card: {path} has no YAML head between two lines of {_FENCE}")
    return head


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
