"""The data sets of `jde data convert`, each listed once. Their modules are imported when used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from jde_ray.pipelines.data_sets.pictures import Notes, Part, Picture, Rules

_PACKAGE = "jde_ray.pipelines.data_sets"


class Converter(Protocol):
    """Module that reads one data set.

    Attributes:
        RULES: Its rules, by default those of the published lists.
        IS_ONE_NUMBERING: Whether a number means one person in the whole set; otherwise in a part.
        CLIPS: Whether boxes are cut off at the picture's border.
    """

    RULES: Rules
    IS_ONE_NUMBERING: bool
    CLIPS: bool

    def find(self, source: Path, name: str) -> list[Part]:
        """Parts of the set below a folder, in the order of their lists; ValueError for none."""
        ...

    def people(self, part: Part, rules: Rules, notes: Notes) -> list[int]:
        """Original numbers of the people in a part, ascending."""
        ...

    def read(self, part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
        """Pictures of a part; ValueError if all of it is unreadable."""
        ...


@dataclass(frozen=True)
class Kind:
    """A data set.

    Attributes:
        module: Its module.
        help: What is read, for a user.
        largest: Largest number of pictures of a list, for those that are cut.
        of_embeddings: Lists that score embeddings.
        classes: Classes or labels that its annotations have, for those that have several.
    """

    module: str
    help: str
    largest: Mapping[str, int] = field(default_factory=dict)
    of_embeddings: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def load(self) -> Converter:
        """The module."""
        return cast(Converter, import_module(f"{_PACKAGE}.{self.module}"))


KINDS: dict[str, Kind] = {
    "caltech": Kind(
        "caltech",
        "CalTech pedestrians: setNN/VNNN.seq and .vbb",
        {"caltech.10k.val": 10_000},
        ("caltech.10k.val",),
        ("person", "people", "person?", "person-fa"),
    ),
    "citypersons": Kind(
        "citypersons",
        "CityPersons: leftImg8bit/ and anno_*.mat",
        classes=("1", "2", "3", "4", "5"),
    ),
    "eth": Kind("eth", "ETH: folders of left images and .idl"),
    "mot15": Kind("mot_challenge", "2DMOT2015: train/"),
    "mot16": Kind("mot_challenge", "MOT16: train/"),
    "mot17": Kind("mot_challenge", "MOT17: train/, of whose copies one is taken"),
    "mot20": Kind("mot_challenge", "MOT20: train/"),
    "cuhksysu": Kind(
        "cuhk_sysu",
        "CUHK-SYSU: Image/SSM and annotation/*.mat",
        {"cuhksysu.val": 2000},
        ("cuhksysu.val",),
    ),
    "prw": Kind(
        "prw", "PRW: frames/, annotations/ and frame_*.mat", {"prw.val": 2000}, ("prw.val",)
    ),
    "crowdhuman": Kind("crowdhuman", "CrowdHuman: annotation_*.odgt and Images/"),
}
