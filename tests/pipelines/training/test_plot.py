from pathlib import Path

import cv2

from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.curves import CURVES, VALIDATION
from jde_ray.pipelines.training.plot import PLOT, losses, plot_curves, points

CURVE = """step,rate,total,loss_box_32,loss_box_16,loss_identity
1,0.001,5,2,1,3
20,0.01,3,1.5,0.25,
40,0.001,2,1,0.5,1
"""
SCORES = """step,sequence,ap,mota
20,park,0.5,0.1
20,OVERALL,0.5,nan
40,OVERALL,0.6,0.2
"""


def test_heads_are_summed_and_what_is_no_number_is_left_out():
    rows = [dict(zip(CURVE.splitlines()[0].split(","), line.split(","), strict=True))
            for line in CURVE.splitlines()[1:]]  # fmt: skip
    assert losses(rows)["box"] == [(1.0, 3.0), (20.0, 1.75), (40.0, 1.5)]
    assert points(rows, "loss_identity") == [(1.0, 3.0), (40.0, 1.0)]
    assert points(rows, "nothing") == []


def test_validation_is_drawn_where_there_is_one(tmp_path: Path):
    store = open_store(tmp_path)
    assert not plot_curves(store)
    store.put(CURVES, CURVE.encode())
    assert plot_curves(store)
    width = cv2.imread(str(tmp_path / PLOT)).shape[1]
    store.put(VALIDATION, SCORES.encode())
    assert plot_curves(store)
    assert cv2.imread(str(tmp_path / PLOT)).shape[1] > 1.3 * width
