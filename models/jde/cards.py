"""The index of shipped networks: the YAML heads of their model cards, in the form model hubs read.

A head has the hubs' keys (`license`, `library_name`, `pipeline_tag`, `datasets`, `metrics`,
`model-index`), and under `jde` what they have no key for. Needs no torch: the names are checked
before it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

PRETRAINED = Path(__file__).parent / "pretrained"
SUFFIX = ".safetensors"
INT8_SUFFIX = ".int8.xml"  # as of `models.jde.int8`, which needs torch
SPEED_CLASSES = ("cpu", "gpu")  # the machine that a network is made for
_FENCE = "---"


@dataclass(frozen=True)
class Card:
    """Facts about a shipped network.

    Attributes:
        name: Name, as `--weights` takes it.
        licence: Licence of the weights, as hubs spell it: `cc-by-nc-sa-3.0`.
        is_commercial: Whether the licence allows commercial use.
        parameters: Number of parameters.
        size: Width and height of the input that it was trained for, in pixels.
        speed_class: One of `SPEED_CLASSES`.
        frames_per_second: Measured speed.
        measured_on: The machine and precision of that speed.
        unseen: What the scores are of: sequences that the network has not seen.
        scores: Scores in percent by metric, such as `MOTA`.
        files: SHA-256 of each of its files, 64 hex digits, by name.
    """

    name: str
    licence: str
    is_commercial: bool
    parameters: int
    size: tuple[int, int]
    speed_class: str
    frames_per_second: float
    measured_on: str
    unseen: str
    scores: Mapping[str, float]
    files: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return self.files[self.name + SUFFIX]

    @property
    def int8_file(self) -> str:
        """Name of the quantised file; empty if none ships."""
        name = self.name + INT8_SUFFIX
        return name if name in self.files else ""

    def damaged(self) -> list[str]:
        """Names of its files that are missing or have another SHA-256."""
        return [name for name, digest in self.files.items() if _sha256(PRETRAINED / name) != digest]


def shipped() -> list[str]:
    """Names of the shipped networks, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in PRETRAINED.glob(f"*{SUFFIX}"))


def find(name: str) -> Path | None:
    """Weights of a shipped network; None if none has the name."""
    return PRETRAINED / (name + SUFFIX) if name in shipped() else None


def unknown(weights: str) -> str:
    """The line that refuses weights which are neither a file nor shipped."""
    names = shipped()
    nearest = get_close_matches(weights, names, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    listed = ", ".join(names) or "none"
    return f"weights: {weights} is neither a file nor a shipped model (shipped: {listed}){hint}"


def read_cards() -> list[Card]:
    """Cards of all shipped networks, by name.

    Raises:
        ValueError: If a card is missing or lacks a fact, in one line.
    """
    return [read_card(PRETRAINED / f"{name}.md") for name in shipped()]


def read_card(path: Path) -> Card:
    """The facts in the head of a card, NAME.md.

    Raises:
        ValueError: If it cannot be read or lacks a fact, in one line with the file.
    """
    head = read_head(path)
    try:
        own, (result,) = head["jde"], head["model-index"][0]["results"]
        width, height = (int(side) for side in str(own["size"]).split("x"))
        speed = own["speed"]
        card = Card(
            name=str(head["model-index"][0]["name"]),
            licence=str(head["license"]),
            is_commercial=bool(own["commercial"]),
            parameters=int(own["parameters"]),
            size=(width, height),
            speed_class=str(speed["class"]),
            frames_per_second=float(speed["frames_per_second"]),
            measured_on=str(speed["measured_on"]),
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
