"""The last filter: by area, and in mode `published` by the original's aspect too."""

from dataclasses import dataclass

import numpy as np
import pytest

from jde_ray.models.tracking.registry import CONFIGS, AssociationConfig, build_config
from jde_ray.models.tracking.reporting import left_out, reported

# areas 199, 200, 201, 320 at 16:10 exactly, 320 a little wider
BOXES = np.array(
    [[0, 0, 10, 19.9], [0, 0, 10, 20], [0, 0, 10, 20.1], [0, 0, 16, 10], [0, 0, 16.01, 10]]
)
BOXES[3:] *= 2


@dataclass(frozen=True)
class Settings:
    """What `TrackConfig` has, without its detector."""

    tracking: AssociationConfig
    min_box_area: float = 200.0


@pytest.mark.parametrize("name", CONFIGS)
def test_areas_count_from_the_limit_on(name):
    assert reported(BOXES, Settings(build_config(name))).tolist() == [False, *[True] * 4]
    assert reported(BOXES, Settings(build_config(name), 0.0)).all()


def test_the_original_wants_more_than_the_area_and_no_wide_boxes():
    published = Settings(build_config(mode="published"))
    assert reported(BOXES, published).tolist() == [False, False, True, True, False]
    causes = left_out(BOXES, published)
    assert {name: mask.nonzero()[0].tolist() for name, mask in causes.items()} == {
        "min_box_area": [0, 1],
        "aspect": [4],
    }
    assert reported(np.zeros((0, 4)), published).shape == (0,)
