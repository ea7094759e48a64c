"""Reads the YAML file that declares two networks: their files, inputs and outputs.

```yaml
frames: 960x544             # frames are resized to this; crops are cut from them
detector:
  file: fastestdet_coco.onnx  # beside this file, or an absolute path
  layout: fastestdet        # one of models.sde.layouts.LAYOUTS
  size: 352x352             # width x height; required if the file does not fix it
  colour: bgr               # rgb | bgr
  divide_by: 255            # a pixel becomes (value / divide_by - mean) / std
  mean: [0, 0, 0]           # in the order of `colour`
  std: [1, 1, 1]
  fit: stretch              # stretch | letterbox
  views: whole              # whole | halves: also search the two halves of a wide picture
  person: 0                 # class number
embedder:                   # left out: boxes are associated by motion and overlap only
  file: osnet_x0_25_msmt17.onnx
  size: 128x256
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  colours: 0.9              # length of a part that describes colours; 0 (none) unless given
```

`embedder: colours` describes people without a network (`models.sde.colours`), and a shipped network
is named likewise. Networks trained by `jde train` are named alone, since their files state their
inputs. A detector is a two-stage network, or a joint one, of which only the boxes are used:

```yaml
detector: {weights: frcnn-small.safetensors}
embedder: {weights: reid.safetensors}
```
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from jde_ray.models.cards import REID
from jde_ray.models.sde.declaration import (
    COLOURS,
    OWN,
    WEIGHTS,
    Declaration,
    DeclarationError,
    DetectorDeclaration,
    NetworkDeclaration,
    Size,
)
from jde_ray.models.settings_file import read_yaml

_AND_COLOURS = "+colours"  # at the end of the name of another one
COLOURS_SHARE = 0.9  # length of the part for colours; squares of both parts sum to 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AnyNetwork = TypeVar("AnyNetwork", bound=NetworkDeclaration)


def read_declaration(path: str | Path) -> Declaration:
    """Read and check the file; the ONNX files are not opened.

    Raises:
        DeclarationError: If it is missing, not YAML, or holds a wrong value.
    """
    path = Path(path)
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise DeclarationError(f"weights: {error}") from None
    try:
        values = _mapping("", content, Declaration)
        values["detector"] = _network(path, "detector", values["detector"], DetectorDeclaration)
        if values.get("embedder") is not None:
            values["embedder"] = _network(path, "embedder", values["embedder"], NetworkDeclaration)
        if "frames" in values:
            values["frames"] = _size(values["frames"])
        return Declaration(**values)
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"weights: {path}: {error}") from None


def read_embedder(path: str | Path) -> NetworkDeclaration:
    """A re-identification network alone: an ONNX or weight file, or YAML like `embedder` above.

    The name of a shipped one stands for its file, `colours` for histograms without a network, and
    `NETWORK+colours` for both side by side.

    The input of an ONNX file is taken to be RGB with the mean and deviation of ImageNet, as usual
    for such networks.

    Raises:
        DeclarationError: If it is missing or holds a wrong value; ONNX files are not opened.
    """
    name, path = str(path), Path(path)
    if not path.exists():
        if (known := _named(name)) is not None:
            return known
        if name.endswith(_AND_COLOURS):
            return _with_colours(name.removesuffix(_AND_COLOURS))
    if path.suffix.lower() == WEIGHTS:
        return NetworkDeclaration(file=path)
    if path.suffix.lower() == ".onnx":
        return NetworkDeclaration(file=path, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if path.suffix.lower() not in (".yaml", ".yml"):
        if not path.suffix and not path.exists():
            raise DeclarationError(REID.unknown(name))
        text = f"expected {COLOURS}, a shipped model ({', '.join(REID.names())}), an ONNX file"
        text += f" (.onnx), re-identification weights ({WEIGHTS}) or YAML"
        raise DeclarationError(f"reid: got {path}, {text}")
    try:
        return _network(path, "reid", read_yaml(path), NetworkDeclaration)
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"reid: {path}: {error}") from None


def _network(path: Path, name: str, content: Any, kind: type[AnyNetwork]) -> AnyNetwork:
    if isinstance(content, str) and kind is NetworkDeclaration:
        if (known := _named(content)) is not None:
            return cast(AnyNetwork, known)
        listed = ", ".join((COLOURS, *REID.names()))
        names = ", ".join(field.name for field in fields(kind))
        expected = f"expected {listed}, or a mapping of {names}, or of weights alone"
        raise ValueError(f"{name}: got {content}, {expected}")
    if isinstance(content, dict) and "weights" in content:
        content = _own(name, content, kind)
    values = _mapping(f"{name}.", content, kind)
    try:
        values["file"] = path.parent / str(values["file"])
        if values.get("size") is not None:
            values["size"] = _size(values["size"])
        for field in ("mean", "std"):
            if field in values:
                values[field] = _numbers(field, values[field])
        for field in ("divide_by", "colours"):
            if field in values:
                values[field] = float(values[field])
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}.{error}") from None


def _named(name: str) -> NetworkDeclaration | None:
    """What a name stands for; None if it is not one."""
    if name == COLOURS:
        return NetworkDeclaration(file=Path(COLOURS))
    if (file := REID.find(name)) is None:
        return None
    card = REID.card(name)
    return NetworkDeclaration(file=file, colours=card.colours if card else 0.0)


def _with_colours(name: str) -> NetworkDeclaration:
    try:
        return replace(read_embedder(name), colours=COLOURS_SHARE)
    except DeclarationError:
        raise
    except ValueError as error:
        raise DeclarationError(f"reid: {name}{_AND_COLOURS}: {error}") from None


def _own(name: str, content: dict[str, Any], kind: type[NetworkDeclaration]) -> dict[str, Any]:
    """The declaration of a weight file of ours, which states its own input."""
    others = [key for key in content if key != "weights"]
    if others:
        raise ValueError(f"{name}.{others[0]}: got it beside weights, which state their own input")
    if not str(content["weights"]).lower().endswith(WEIGHTS):
        got = f"got {content['weights']}"
        raise ValueError(f"{name}.weights: {got}, expected a {WEIGHTS} file (file: x.onnx)")
    own = {"file": content["weights"]}
    return own | {"layout": OWN} if kind is DetectorDeclaration else own


def _mapping(prefix: str, content: Any, kind: type[Any]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if not isinstance(content, dict):
        where = prefix.rstrip(".") or "the file"
        or_ours = ", or of weights alone" if "file" in names else ""
        raise ValueError(f"{where}: expected a mapping of {', '.join(names)}{or_ours}")
    for key in content:
        if key not in names:
            raise ValueError(f"{prefix}{key}: no such setting, expected {', '.join(names)}")
    for needed in ("detector", "file", "layout"):
        if needed in names and needed not in content:
            raise ValueError(f"{prefix}{needed}: is missing")
    return dict(content)


def _size(value: Any) -> Size:
    sides = str(value).lower().split("x")
    if len(sides) != 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"size: got {value!r}, expected WIDTHxHEIGHT, such as 352x352")
    return int(sides[0]), int(sides[1])


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{name}: got {value!r}, expected three numbers")
    return tuple(float(number) for number in value)
