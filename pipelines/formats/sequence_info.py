"""The `seqinfo.ini` of a MOTChallenge sequence: rate, length and size of its frames."""

from __future__ import annotations

import configparser
import math
from dataclasses import dataclass
from pathlib import Path

from jde_ray.pipelines.formats.limits import MOST_FRAMES


@dataclass(frozen=True)
class SequenceInfo:
    """Content of a `seqinfo.ini`; sizes in pixels."""

    name: str
    frames_per_second: float
    num_frames: int
    width: int
    height: int
    image_folder: str
    image_suffix: str


def read_sequence_info(path: Path) -> SequenceInfo:
    """Read a `seqinfo.ini`.

    Raises:
        ValueError: If the file or a value cannot be read, in one line.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        info = SequenceInfo(
            name=section.get("name", path.parent.name),
            frames_per_second=float(section["frameRate"]),
            num_frames=int(section["seqLength"]),
            width=int(section["imWidth"]),
            height=int(section["imHeight"]),
            image_folder=section.get("imDir", "img1"),
            image_suffix=section.get("imExt", ".jpg"),
        )
        if not (0 < info.frames_per_second < math.inf and 0 <= info.num_frames <= MOST_FRAMES):
            got = f"frameRate {info.frames_per_second:g} and seqLength {info.num_frames:g}"
            raise ValueError(f"got {got}, expected above 0 and 0 to {MOST_FRAMES}")
    except (OSError, UnicodeDecodeError, KeyError, ValueError, configparser.Error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable seqinfo.ini: {reason}") from error
    return info


def format_sequence_info(info: SequenceInfo) -> str:
    """Text of a `seqinfo.ini`."""
    return (
        f"[Sequence]\nname={info.name}\nimDir={info.image_folder}\n"
        f"frameRate={info.frames_per_second:g}\nseqLength={info.num_frames}\n"
        f"imWidth={info.width}\nimHeight={info.height}\nimExt={info.image_suffix}\n"
    )


def sequence_rate(folder: Path) -> float | None:
    """`frameRate` of a sequence's folder; None if it states none above 0 and up to 1000."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "seqinfo.ini", encoding="utf-8-sig")
        rate = parser.getfloat("Sequence", "frameRate")
    except (configparser.Error, ValueError, OSError):
        return None
    return rate if 0 < rate <= 1000 else None


def sequence_info_path(text: Path) -> Path | None:
    """The `seqinfo.ini` of MOT text: in NAME for `NAME/det/det.txt`, else beside the file."""
    folder = text.parent.parent if text.parent.name == "det" else text.parent
    return folder / "seqinfo.ini" if (folder / "seqinfo.ini").is_file() else None
