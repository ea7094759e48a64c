"""Settings of the training of a re-identification network: crops, batches, losses, views."""

from __future__ import annotations

from dataclasses import dataclass, field

from jde_ray.models.reid.config import LossWeights


@dataclass(frozen=True, kw_only=True)
class CropViews:
    """Ranges of the random changes, which differ between the crops of a person.

    Attributes:
        shift: Largest shift of a box, relative to its width and height.
        resize: Logarithm of the largest factor of a box's width and height.
        cut: Share of the crops that end above the feet, as where something hides the legs.
        flip: Share that is mirrored.
        light: Logarithm of the largest factor of brightness, contrast and gamma.
        tint: Logarithm of the largest factor of a colour channel.
        saturation: Smallest and largest factor of the saturation.
        coarse: Share that is made as coarse as a crop of a third to a half of the height.
        erase: Share of which a rectangle is hidden, half of them by a plain colour and half by
            another person's part.
        largest_hidden: Largest share of the crop's width or height that is hidden.

    Raises:
        ValueError: If a value is out of range.
    """

    shift: float = 0.08
    resize: float = 0.12
    cut: float = 0.15
    flip: float = 0.5
    light: float = 0.35
    tint: float = 0.12
    saturation: tuple[float, float] = (0.4, 1.4)
    coarse: float = 0.3
    erase: float = 0.4
    largest_hidden: float = 0.5

    def __post_init__(self) -> None:
        for name in ("cut", "flip", "coarse", "erase", "largest_hidden"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"views {name}: got {value}, expected 0 to 1")
        for name in ("shift", "resize", "light", "tint"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"views {name}: got {value}, expected 0 to 1")
        if len(self.saturation) != 2 or not 0 <= self.saturation[0] <= self.saturation[1]:
            got = list(self.saturation)
            raise ValueError(f"views saturation: got {got}, expected [low, high] from 0")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut, and drawn for a batch.

    Attributes:
        size: Width and height of the network's input; None for that of its configuration.
        sightings: Crops of each person in a batch (K of P x K).
        neighbours: People who are drawn from one source in a row, so that a batch holds people of
            one place, who are harder to tell apart.
        far: Share of the sightings for which the farther in time of two drawn ones is taken.
        unknown: Share of the batch that shows people without an identity, who teach only the
            teacher's distances.
        least_height: People of fewer pixels of height in their image are left out.
        fewest_sightings: People with fewer crops are left out. With 1, `sightings` of a person
            with one crop are different views of it.
        context: Factor of the box's width and height that is cut out, so that views can shift.
        detail: Pixels of a cut-out box per pixel of the network's input; memory grows with its
            square.
        only_parts: Whether only the assignment of cells to parts learns, of a `refined` network
            that starts from a trained one; classifiers are new and learn too.
        losses: Factors of the losses; None for the loss that the network was published with.
        views: Ranges of the random changes.

    Raises:
        ValueError: If a value is out of range.
    """

    size: tuple[int, int] | None = None
    sightings: int = 4
    neighbours: int = 6
    far: float = 0.7
    unknown: float = 0.0
    least_height: float = 20.0
    fewest_sightings: int = 2
    context: float = 1.3
    detail: float = 1.0
    only_parts: bool = False
    losses: LossWeights | None = None
    views: CropViews = field(default_factory=CropViews)

    def __post_init__(self) -> None:
        for name, least in (("sightings", 2), ("neighbours", 1), ("fewest_sightings", 1)):
            if getattr(self, name) < least:
                got = getattr(self, name)
                raise ValueError(f"crops {name}: got {got}, expected {least} or more")
        if not 0 <= self.far <= 1:
            raise ValueError(f"crops far: got {self.far}, expected 0 to 1")
        if not 0 <= self.unknown < 1:
            raise ValueError(f"crops unknown: got {self.unknown}, expected 0 to below 1")
        if not 1 <= self.context <= 2:
            raise ValueError(f"crops context: got {self.context}, expected 1 to 2")
        if not 0 < self.detail <= 2:
            raise ValueError(f"crops detail: got {self.detail}, expected above 0 to 2")
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"crops size: got {list(self.size)}, expected [width, height]")
