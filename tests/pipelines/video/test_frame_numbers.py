from pathlib import Path

import pytest

from jde_ray.pipelines.video.frame_numbers import follow, frame_order


def runs(*names, largest_gap=1):
    """The names, in order, run by run."""
    paths = sorted((Path(name) for name in names), key=frame_order)
    found = {}
    for path, run in zip(paths, follow(paths, largest_gap), strict=True):
        found.setdefault(run, []).append(str(path))
    return list(found.values())


def test_frames_of_a_video_are_one_run_in_the_order_of_their_numbers():
    assert runs("a/10.jpg", "a/8.jpg", "a/9.jpg") == [["a/8.jpg", "a/9.jpg", "a/10.jpg"]]
    assert runs("000002.jpg", "000001.jpg") == [["000001.jpg", "000002.jpg"]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/1.jpg", "b/2.jpg"),  # two cameras
        ("set00_V000_9.png", "set00_V001_10.png"),  # two videos of one folder
        ("s5.jpg", "s870.jpg"),  # two pictures
        ("1.jpg", "2.png"),
        ("c1s1_000151.jpg", "c1s1_000176.jpg"),  # a second apart
        ("x.jpg", "y.jpg"),
    ],
)
def test_pictures_that_do_not_follow_are_runs_of_their_own(first, second):
    assert runs(first, second) == [[first], [second]]


def test_the_number_that_counts_may_stand_anywhere_but_is_the_same_throughout():
    left = [f"image_{n:08d}_0.png" for n in range(3)]
    assert runs(*left) == [left]
    assert runs("1_1.png", "1_2.png", "2_2.png") == [["1_1.png", "1_2.png"], ["2_2.png"]]


def test_gaps_are_bridged_as_far_as_asked():
    names = ["c1s1_000151.jpg", "c1s1_000176.jpg", "c1s1_000202.jpg"]
    assert runs(*names, largest_gap=25) == [names[:2], names[2:]]
