"""Write pictures in the unified JDE layout: `labels_with_ids/NAME.txt` beside `images/NAME.jpg`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Picture
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.formats.label_files import BadDataError, label_path, outside
from jde_ray.pipelines.processes import mark
from jde_ray.pipelines.video.exif import UPRIGHT, orientation_of, without_exif
from jde_ray.pipelines.video.frame import check_size
from jde_ray.pipelines.video.image_headers import ImageHeader, read_header

STAGING = ".converting-"  # prefix of folders for what is not complete
_START = 1 << 18  # bytes in which the header of nearly every picture lies


@dataclass(frozen=True)
class Written:
    """A part as written.

    Attributes:
        images: Names of its pictures below OUT, in order.
        num_boxes: Number of boxes of each picture.
        identities: Numbers of its people, ascending.
    """

    images: tuple[str, ...]
    num_boxes: tuple[int, ...]
    identities: tuple[int, ...]


def write(
    pictures: Iterable[Picture],
    numbers: Mapping[int, int],
    out: Path,
    notes: Notes,
    *,
    clips: bool,
    skip_bad: bool,
) -> Written:
    """Write all pictures of a part, or none.

    They are collected in a folder beside, and moved when all are there and nothing is wrong.

    Args:
        pictures: The pictures.
        numbers: Number that is written for each original number of a person.
        out: Folder of the lists.
        notes: Receives what is left out.
        clips: Whether boxes are cut off at the picture's border.
        skip_bad: Leave out wrong rows and pictures.

    Raises:
        BadDataError: If rows or files are wrong, without `skip_bad`, or `out` is so chosen that the
            set's own pictures would be replaced.
        ValueError: If the part cannot be read.
    """
    images, counts, seen = [], [], set()
    with tempfile.TemporaryDirectory(prefix=f"{STAGING}{mark()}-", dir=out) as folder:
        staged = Path(folder)
        for picture in pictures:
            _refuse_own(picture, out)
            try:
                size, image = _checked(picture.image)
            except (ValueError, OSError) as error:
                where = picture.image if isinstance(picture.image, Path) else Path(picture.name)
                notes.problems.add(where, None, "unreadable image", str(error))
                continue
            lines = _lines(picture, numbers, size, notes, clips=clips)
            label = staged / label_path(Path(picture.name))
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(f"0 {who} {box}\n" for who, box in lines), encoding="ascii")
            place(image, staged / picture.name)
            images.append(picture.name)
            counts.append(len(lines))
            seen |= {who for who, _ in lines}
        if not skip_bad:
            notes.problems.refuse()
        _move(staged, out)
    return Written(tuple(images), tuple(counts), tuple(sorted(seen - {UNKNOWN})))


def _refuse_own(picture: Picture, out: Path) -> None:
    """Refuse to write a picture where it is read: another conversion would remove it."""
    if isinstance(picture.image, Path) and _place(picture.image) == _place(out / picture.name):
        text = "where its pictures would be written they already lie; expected another folder"
        raise BadDataError(f"out: got {out} for {picture.image}: {text}")


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _lines(
    picture: Picture,
    numbers: Mapping[int, int],
    size: tuple[int, int],
    notes: Notes,
    *,
    clips: bool,
) -> list[tuple[int, str]]:
    """Identity and `xc yc w h` of each box that has an area and overlaps the picture."""
    tlwh = np.asarray(picture.tlwh, np.float64).reshape(-1, 4)
    has_area = np.asarray((tlwh[:, 2:] > 0).all(axis=1), np.bool_)
    notes.left_out["no area"] += int((~has_area).sum())
    lines = []
    for keep, original, box in zip(has_area, picture.identity, _shares(tlwh, size), strict=True):
        if not keep:
            continue
        tlbr = np.clip(box, 0, 1) if clips else box
        sides = [*((tlbr[:2] + tlbr[2:]) / 2), *(tlbr[2:] - tlbr[:2])]
        text = " ".join(f"{value:.6f}" for value in sides)
        xc, yc, width, height = map(float, text.split())  # what a reader will see
        corners = (xc - width / 2, yc - height / 2, xc + width / 2, yc + height / 2)
        if outside(corners, 1, 1) is not None:
            notes.left_out["outside the picture"] += 1
            continue
        notes.left_out["cut off at the border"] += int(clips and not np.array_equal(tlbr, box))
        lines.append((UNKNOWN if original < 0 else numbers[original], text))
    return lines


def _shares(tlwh: FloatArray, size: tuple[int, int]) -> FloatArray:
    """`(n, 4)` corners relative to width and height."""
    first = tlwh[:, :2] / size
    return np.concatenate([first, first + tlwh[:, 2:] / size], 1)


def _checked(image: Path | bytes) -> tuple[tuple[int, int], Path | bytes]:
    """Width and height in stored pixels, and the picture as it is to be placed.

    The boxes of all sets refer to stored pixels, but a list's pictures are turned as their EXIF
    orientation says. A picture that would be turned is written without it.
    """
    if isinstance(image, Path) and not image.is_file():
        raise ValueError("no file")  # a pipe would be waited for
    data = image if isinstance(image, bytes) else _beginning(image)
    header = _header(data)
    if header is None and isinstance(image, Path):
        data = image.read_bytes()
        header = _header(data)
    if header is None:
        raise ValueError("no JPEG, PNG or BMP")
    try:
        check_size(header.width, header.height)
    except VideoError as error:
        raise ValueError(error.detail) from error
    if min(header.width, header.height) < 1:
        raise ValueError(f"got {header.width}x{header.height} pixels")
    if orientation_of(data) != UPRIGHT:
        image = without_exif(image if isinstance(image, bytes) else image.read_bytes())
    return (header.width, header.height), image


def _header(data: bytes) -> ImageHeader | None:
    header = read_header(data)
    return None if header is None or header.kind == "webp" else header


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def place(image: Path | bytes, target: Path) -> None:
    """Put a picture somewhere: a hard link if possible, else a symbolic one, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        target.write_bytes(image)
        return
    source = image.resolve()
    for make in (os.link, os.symlink):
        with suppress(OSError):  # another disk, another owner, or a file system without links
            make(source, target)
            return
    shutil.copyfile(source, target)


def _move(source: Path, target: Path) -> None:
    """Move what is in a folder into another one, labels before their pictures.

    A folder that is new there is moved whole, unless another part creates it at the same moment.
    """
    for child in sorted(source.iterdir(), key=lambda p: (p.name != "labels_with_ids", p.name)):
        goal = target / child.name
        if not child.is_dir() or child.is_symlink():
            os.replace(child, goal)
            continue
        try:
            os.rename(child, goal)
        except OSError:  # there is such a folder, which has something in it
            if not goal.is_dir():
                raise
            _move(child, goal)
