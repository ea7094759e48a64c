from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jde_ray.pipelines.training.data.labelled_image import ListedImage
from jde_ray.pipelines.training.data_check.overlaps import Overlap, find_overlaps
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import TrainingConfig, ValidationConfig
from jde_ray.pipelines.training.source import Source

ROOT = Path("data")


def listed(*names: str) -> list[ListedImage]:
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return [ListedImage(ROOT / name, *nobody, group=0, longest_side=99) for name in names]


def recipe(*sources: Source, validation: tuple[str, ...] = ()) -> Recipe:
    scored = ValidationConfig(sequences=validation, every_epochs=1) if validation else None
    training = TrainingConfig(epochs=1)
    return Recipe(network="small", sources=sources, training=training, validation=scored)


ETH = Source(kind="list", path="eth.train")


def test_eth_and_mot_sequences_are_known_by_all_their_names():
    images = listed("ETHZ/eth01/images/a.png", "ETHZ/eth04/images/a.png")
    found = find_overlaps(recipe(ETH), ROOT, [images])
    assert {(one.scored, one.sequence, one.known_as) for one in found} == {
        ("MOT15 train", "ETH-Bahnhof", "eth01"),
        ("MOT15 test", "ETH-Linthescher", "eth04"),
        ("MOT16 and MOT17 test", "MOT16-06", "eth04"),
    }
    assert not any(one.is_wrong for one in found)


@pytest.mark.parametrize(
    ("validation", "source"),
    [
        ("MOT15/train/Venice-2", Source(kind="sequence", path="a/MOT17-02-FRCNN")),
        ("a/lobby-2", Source(kind="boxes", path="b/other", scene=("lobby-2", "door"))),
        ("MOT16/train/MOT16-02", Source(kind="frames", path="a/x.mp4", scene="MOT17-02")),
    ],
)
def test_validation_on_what_is_learned_from_is_wrong(validation, source):
    found = find_overlaps(recipe(source, validation=(validation,)), ROOT, [[]])
    own = [one for one in found if one.is_wrong]
    assert [(one.scored, one.source) for one in own] == [("validation", source.path)]


def test_lists_and_sequences_for_tests(tmp_path: Path):
    (tmp_path / "mot.val").write_text("MOT17/images/train/MOT17-05-SDP/img1/000001.jpg\n" * 2)
    images = [
        ListedImage(tmp_path / "MOT17/images/train/MOT17-05-SDP/img1/000009.jpg",
                    *(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool)), 0, 99)
    ]  # fmt: skip
    source = Source(kind="list", path="mot17.train")
    found = find_overlaps(recipe(source), tmp_path, [images], ["mot.val", "ETH-Pedcross2", "x/y"])
    assert [one for one in found if one.is_wrong] == [
        Overlap("mot.val", "MOT17-05-SDP", "mot17.train", "MOT17-05-SDP", True),
        Overlap("ETH-Pedcross2", "ETH-Pedcross2", "mot17.train", "MOT17-05-SDP", True),
    ]


def test_rendered_streets_overlap_with_nothing():
    assert find_overlaps(recipe(Source(kind="synthetic", path="40")), ROOT, [[]], ["40"]) == []
