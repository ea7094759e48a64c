"""What is published about the data sets: the counts of the paper's Table 1, and shared footage."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedCounts:
    """A column of the paper's Table 1, as printed.

    Attributes:
        name: Its name there.
        images: Pictures.
        boxes: People in them.
        identities: Different people.
        classes: One more than the largest number in the published labels; 0 without identities.
    """

    name: str
    images: str
    boxes: str
    identities: str
    classes: int


TABLE_1: dict[str, PublishedCounts] = {
    "eth.train": PublishedCounts("ETH", "2K", "17K", "-", 0),
    "citypersons.train": PublishedCounts("CP", "3K", "21K", "-", 0),
    "caltech.train": PublishedCounts("CT", "27K", "46K", "0.6K", 1043),
    # printed as 53K images, though the seven sequences have 5,316 frames
    "mot17.train": PublishedCounts("M16", "5.3K (53K in print)", "112K", "0.5K", 547),
    "mot16.train": PublishedCounts("M16", "5.3K (53K in print)", "112K", "0.5K", 547),
    "cuhksysu.train": PublishedCounts("CS", "11K", "55K", "7K", 11_931),
    "prw.train": PublishedCounts("PRW", "6K", "18K", "0.5K", 933),
}
TOTAL = PublishedCounts("total", "54K", "270K", "8.7K", 14_455)

# The published mixture: lists by the parts of its `ccmcpe.json`, in its order.
MIXTURE: dict[str, dict[str, str]] = {
    "train": {
        "mot17": "mot17.train",
        "caltech": "caltech.train",
        "citypersons": "citypersons.train",
        "cuhksysu": "cuhksysu.train",
        "prw": "prw.train",
        "eth": "eth.train",
    },
    "test_emb": {"caltech": "caltech.10k.val", "cuhksysu": "cuhksysu.val", "prw": "prw.val"},
    "test": {"caltech": "caltech.val", "citypersons": "citypersons.val"},
}

# Names of one piece of footage. The first is MOT16's or MOT15's; MOT17 has MOT16's numbers.
SHARED_FOOTAGE = (
    ("MOT16-01", "Venice-1"),
    ("MOT16-02", "Venice-2"),
    ("MOT16-05", "ETH-Pedcross2", "PEDCROSS2", "eth06"),
    ("MOT16-06", "ETH-Linthescher", "LINTHESCHER", "eth04"),
    ("MOT16-07", "ADL-Rundle-1"),
    ("MOT16-08", "ADL-Rundle-3"),
    ("MOT16-09", "ADL-Rundle-6"),
    ("MOT16-10", "ADL-Rundle-8"),
    ("ETH-Bahnhof", "BAHNHOF", "eth01"),
    ("ETH-Jelmoli", "JELMOLI", "eth02"),
    ("ETH-Sunnyday", "SUNNY DAY", "sunny_day", "eth03"),
    ("ETH-Crossing", "CROSSING", "eth05"),
)

# Sequences of the benchmarks. Whoever learned from one must not be scored on it.
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "MOT15 train": (
        "Venice-2", "KITTI-17", "KITTI-13", "ADL-Rundle-8", "ADL-Rundle-6", "ETH-Pedcross2",
        "ETH-Sunnyday", "ETH-Bahnhof", "PETS09-S2L1", "TUD-Campus", "TUD-Stadtmitte",
    ),
    "MOT15 test": (
        "Venice-1", "KITTI-19", "KITTI-16", "ADL-Rundle-3", "ADL-Rundle-1", "AVG-TownCentre",
        "ETH-Crossing", "ETH-Linthescher", "ETH-Jelmoli", "PETS09-S2L2", "TUD-Crossing",
    ),
    "MOT16 and MOT17 train": tuple(f"MOT16-{n:02}" for n in (2, 4, 5, 9, 10, 11, 13)),
    "MOT16 and MOT17 test": tuple(f"MOT16-{n:02}" for n in (1, 3, 6, 7, 8, 12, 14)),
    "MOT20 train": tuple(f"MOT20-{n:02}" for n in (1, 2, 3, 5)),
    "MOT20 test": tuple(f"MOT20-{n:02}" for n in (4, 6, 7, 8)),
}  # fmt: skip

_STILLS = ("CUHKSYSU", "PRW", "CrowdHuman")  # folders of single pictures
_COPY = re.compile(r"-(?:SDP|FRCNN|DPM)$", re.IGNORECASE)
_FIRST = {name.lower(): names[0].lower() for names in SHARED_FOOTAGE for name in names}


def footage(name: str) -> str:
    """Name of what a sequence shows, equal for all names of one piece of footage.

    >>> footage("Venice-2") == footage("MOT17-02-SDP")
    True
    """
    plain = _COPY.sub("", name.strip()).lower()
    plain = re.sub(r"^mot17-", "mot16-", re.sub(r"^cvpr19-", "mot20-", plain))
    return _FIRST.get(plain, plain)


def sequence_of(image: str) -> str:
    """Name of the sequence or video that a listed picture belongs to; its folder for others.

    A picture of person search or CrowdHuman stands for itself: those of training and tests lie in
    one folder, as published.

    >>> sequence_of("MOT17/images/train/MOT17-02-SDP/img1/000001.jpg")
    'MOT17-02-SDP'
    >>> sequence_of("ETHZ/eth01/images/image_00000001_0.png")
    'eth01'
    >>> sequence_of("Caltech/data/images/set00_V000_190.png")
    'set00_V000'
    >>> sequence_of("CUHKSYSU/images/s1.jpg")
    'CUHKSYSU/images/s1.jpg'
    """
    *folders, name = image.split("/")
    if folders and folders[0] in _STILLS:
        return image
    if found := re.match(r"set\d\d_V\d\d\d(?=_)", name):
        return found[0]
    kept = [part for part in folders if part not in ("images", "img1", "train", "test", "val")]
    return kept[-1] if kept else ""
