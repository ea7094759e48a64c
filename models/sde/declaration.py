"""What is declared of two separate networks: their files, their inputs and their outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jde_ray.models.sde import colours
from jde_ray.models.sde.layouts import LAYOUTS

Size = tuple[int, int]
WEIGHTS = ".safetensors"  # suffix of networks of ours
OWN = "own"  # layout of their outputs
COLOURS = "colours"  # name of the embedder without a network, `models.sde.colours`
QUALITY = "quality"  # name of an embedder's output beside its vectors


class DeclarationError(ValueError):
    """The file, or an ONNX file it names, cannot be used; one line says why."""


@dataclass(frozen=True, kw_only=True)
class NetworkDeclaration:
    """One ONNX file and the form of its input.

    Attributes:
        file: Path of the ONNX file, or of the weights of a network of ours.
        size: Width and height of its input in pixels; None if the file fixes them.
        colour: Order of its input's channels.
        divide_by: Divisor of pixel values from 0 to 255, applied before mean and std.
        mean: Subtracted next, per channel in the order of `colour`.
        std: Divisor applied last, per channel.
        colours: Of an embedder: length of the part of its vectors that describes the colours of
            the crop (`models.sde.colours`), beside the network's; 0 for none.

    Raises:
        ValueError: If a value is out of range, naming it and what is expected.
    """

    file: Path
    size: Size | None = None
    colour: Literal["rgb", "bgr"] = "rgb"
    divide_by: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    colours: float = 0.0

    @property
    def is_colours(self) -> bool:
        """Whether crops are described by their colours, without a network."""
        return self.file == Path(COLOURS)

    @property
    def is_own(self) -> bool:
        """Whether the file holds weights of a network of ours, and not an ONNX graph."""
        return self.file.suffix.lower() == WEIGHTS

    def __post_init__(self) -> None:
        _check_choice("colour", self.colour, ("rgb", "bgr"))
        if not self.divide_by > 0:
            raise ValueError(f"divide_by: got {self.divide_by}, expected above 0")
        if not min(self.std) > 0:
            raise ValueError(f"std: got {list(self.std)}, expected three numbers above 0")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size: got {self.size}, expected WIDTHxHEIGHT")
        if not 0 <= self.colours < 1:
            raise ValueError(f"colours: got {self.colours}, expected from 0 to below 1")
        if self.colours and self.is_colours:
            raise ValueError("colours: got them beside themselves, expected a network")


@dataclass(frozen=True, kw_only=True)
class DetectorDeclaration(NetworkDeclaration):
    """A detector's ONNX file, its input and the meaning of its output.

    Attributes:
        layout: Layout of its output, a key of `LAYOUTS`; `OWN` for weights of ours.
        fit: Whether a picture is stretched to the input or letterboxed into it.
        views: `halves` also searches the left and the right 55 % of a wide picture, which finds
            smaller people at three times the cost.
        person: Number of the class person.
    """

    layout: str
    fit: Literal["stretch", "letterbox"] = "stretch"
    views: Literal["whole", "halves"] = "whole"
    person: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours:
            raise ValueError(f"colours: got {self.colours}, expected it of the embedder")
        if not (self.is_own and self.layout == OWN):
            _check_choice("layout", self.layout, tuple(LAYOUTS))
        _check_choice("fit", self.fit, ("stretch", "letterbox"))
        _check_choice("views", self.views, ("whole", "halves"))
        if self.person < 0:
            raise ValueError(f"person: got {self.person}, expected a class from 0")


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Content of a declaration file.

    Attributes:
        detector: Network that finds the boxes.
        embedder: Network that computes the appearance vector of each box's crop; None for none.
        frames: Width and height of the frames that the networks are given, multiples of 32.
    """

    detector: DetectorDeclaration
    embedder: NetworkDeclaration | None = None
    frames: Size = (960, 544)

    def __post_init__(self) -> None:
        if any(side < 32 or side % 32 for side in self.frames):
            nearest = "x".join(str(max(32, round(side / 32) * 32)) for side in self.frames)
            got = "x".join(map(str, self.frames))
            raise ValueError(f"frames: got {got}, expected multiples of 32, nearest is {nearest}")

    def sha256(self) -> str:
        """SHA-256 over both files' bytes and their declarations without paths, 64 hex digits.

        Raises:
            DeclarationError: If a file cannot be read.
        """
        networks = {"detector": self.detector, "embedder": self.embedder}
        return sha256_of({name: one for name, one in networks.items() if one is not None})


def sha256_of(networks: Mapping[str, NetworkDeclaration]) -> str:
    """SHA-256 over files' bytes and their declarations without paths, 64 hex digits.

    Raises:
        DeclarationError: If a file cannot be read.
    """
    parts: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        parts[name] = asdict(network) | {"file": _digest(network.file)}
        if network.colours:
            parts[name]["colour_settings"] = colours.SETTINGS
        else:  # earlier versions did not have it
            del parts[name]["colours"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected {' | '.join(choices)}")


def _digest(path: Path) -> str:
    if path == Path(COLOURS):
        return hashlib.sha256(repr(colours.SETTINGS).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DeclarationError(f"weights: {path} cannot be read ({error.strerror})") from None
