"""A configuration is checked without torch."""

import math
import subprocess
import sys

import pytest

from jde_ray.models.losses.config import check_margin


def test_a_margin_is_for_the_triplet_loss_alone():
    check_margin("triplet", 0.3)
    check_margin("upper_bound", 0.0)
    with pytest.raises(ValueError, match=r"margin: got 0.3 with upper_bound, expected"):
        check_margin("upper_bound", 0.3)
    for value in (-0.1, 2.0, math.nan):
        with pytest.raises(ValueError, match=f"margin: got {value}, expected 0 to 2"):
            check_margin("triplet", value)


def test_the_names_are_read_without_torch():
    code = "import sys, models.losses.config; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
