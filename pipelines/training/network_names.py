"""The networks that a recipe may name, and the settings that each kind of them has. Needs no torch.

`pipelines.training.kinds` holds what is done with a network of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jde_ray.models.jde.config import CONFIGURATIONS as JOINT
from jde_ray.models.motion.config import CONFIGURATIONS as MOTION
from jde_ray.models.rcnn.config import CONFIGURATIONS as RCNN
from jde_ray.models.reid.config import CONFIGURATIONS as REID


@dataclass(frozen=True)
class NetworkNames:
    """A kind of networks, as recipes see it.

    Attributes:
        kind: Its name; a `detector` has two stages and no appearance, a `two-stage` one has both.
        configurations: Configurations by the name of the network.
        lacks: Settings of a recipe that it does not have, with what is expected instead.
        learns_from: What its networks learn from: `pictures`, `crops` of people, or `tracks`.
    """

    kind: str
    configurations: Mapping[str, Any]
    lacks: Mapping[str, str]
    learns_from: Literal["pictures", "crops", "tracks"] = "pictures"

    @property
    def learns_identities(self) -> bool:
        """Whether its networks tell people apart."""
        return self.kind not in ("detector", "motion")

    @property
    def from_crops(self) -> bool:
        """Whether its networks learn from crops of people."""
        return self.learns_from == "crops"

    @property
    def from_tracks(self) -> bool:
        """Whether its networks learn from tracks, and need no pictures."""
        return self.learns_from == "tracks"


_NO_CROPS = "none, since it learns from pictures"
_NO_PIECES = "none, since only a motion network learns from tracks"
_ONLY_TRACKS = "none, since it learns from tracks alone"
_NO_APPEARANCE = "none, since a detector learns no appearance"
_LOSSES = "`crops: {losses: ...}` or none"
_ALIKE = "none, since its losses count alike"
_ONLY_JOINT = "none, since only joint networks have another"
_BALANCE = ("weighting", "fixed_weights", "uncertainty_start", "mgda_over", "mgda_normalised")
KINDS = (
    NetworkNames("joint", JOINT, {"crops": _NO_CROPS, "pieces": _NO_PIECES}),
    NetworkNames(
        "detector",
        {name: config for name, config in RCNN.items() if not config.embedding_dim},
        {
            "crops": _NO_CROPS,
            "pieces": _NO_PIECES,
            "initial_classifier": "none",
            **dict.fromkeys(_BALANCE, _ALIKE),
            **dict.fromkeys(("size", "anchors"), _ONLY_JOINT),
            **dict.fromkeys(
                ("embedding_loss", "margin", "appearance_teacher", "collage_share"), _NO_APPEARANCE
            ),
        },
    ),
    NetworkNames(
        "two-stage",
        {name: config for name, config in RCNN.items() if config.embedding_dim},
        {
            "crops": _NO_CROPS,
            "pieces": _NO_PIECES,
            "initial_classifier": "none",
            "appearance_teacher": "none, since it learns appearance from identities",
            **dict.fromkeys(("size", "anchors"), _ONLY_JOINT),
        },
    ),
    NetworkNames(
        "reid",
        REID,
        {
            **dict.fromkeys(("embedding_loss", "margin", "assignment", *_BALANCE), _LOSSES),
            "pieces": _NO_PIECES,
            "size": "`crops: {size: ...}` or none",
            "anchors": _ONLY_JOINT,
            "sampling": "none, since `crops` says how crops are drawn",
            "initial_classifier": "none",
            "augmentation": "`crops: {views: ...}` or none",
            "collage_share": "none, since `crops` sources are taken whole",
            "aspects": "`crops: {size: ...}` or none",
            "validation": "none, since `jde bench embedders` scores it",
        },
        learns_from="crops",
    ),
    NetworkNames(
        "motion",
        MOTION,
        dict.fromkeys(
            (
                *("crops", "augmentation", "validation", "size", "anchors", "sampling", "aspects"),
                *("embedding_loss", "margin", "assignment", "collage_share", *_BALANCE),
                *("initial_classifier", "detector_teacher", "appearance_teacher"),
            ),
            _ONLY_TRACKS,
        ),
        learns_from="tracks",
    ),
)


def names_of(network: str) -> NetworkNames:
    """The kind of the network of a name.

    Raises:
        ValueError: If no network has that name.
    """
    for kind in KINDS:
        if isinstance(network, str) and network in kind.configurations:
            return kind
    accepted = " | ".join(name for kind in KINDS for name in kind.configurations)
    raise ValueError(f"network: got {network!r}, expected {accepted}")
