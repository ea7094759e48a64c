"""The camera's motion on rendered pans, zooms and turns of known truth, and where it stands."""

import cv2
import numpy as np
import pytest
from made_videos import textured

from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.video.camera_motion import (
    STANDING,
    CameraMotion,
    motion_between,
    small_grey,
    to_source,
)

WIDTH, HEIGHT = 640, 360
LETTERBOX = Letterbox(WIDTH, HEIGHT, 576, 320)


def similarity(scale=1.0, degrees=0.0, shift=(0.0, 0.0), centre=(WIDTH / 2, HEIGHT / 2)):
    """`(2, 3)` map of box coordinates: scaled and turned about a point, then shifted."""
    turn = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, np.array(centre) - linear @ centre + shift])


def render(scene, view, people=()):
    """A frame of the scene; `view` maps the first frame's coordinates to this one's."""
    place = np.array([[1.0, 0, -280], [0, 1.0, -270], [0, 0, 1]])
    full = np.vstack([view, [0, 0, 1]]) @ place  # coordinates of boxes
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    pixels = np.linalg.inv(half) @ full @ half  # coordinates of pixel centres
    frame = cv2.warpPerspective(scene, pixels, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    for left, top, width, height, cloth in people:
        frame[top : top + height, left : left + width] = cloth[:height, :width]
    return frame


def estimated(*frames):
    """The motion at each frame, in source pixels."""
    camera = CameraMotion()
    return [camera.estimate(LETTERBOX.apply(frame), LETTERBOX) for frame in frames]


def error(motion, truth):
    """Largest distance between two maps over the frame, in source pixels."""
    corners = np.array([[0, WIDTH, 0, WIDTH], [0, 0, HEIGHT, HEIGHT], [1.0, 1, 1, 1]])
    return np.linalg.norm((motion - truth) @ corners, axis=0).max()


@pytest.mark.parametrize(
    "truth",
    [
        similarity(shift=(9.0, 0.0)),
        similarity(shift=(-31.0, 14.0)),
        similarity(scale=1.05),
        similarity(scale=0.93, shift=(4.0, 4.0)),
        similarity(degrees=3.0),
        similarity(scale=1.03, degrees=-2.0, shift=(12.0, -6.0)),
    ],
    ids=["pan", "fast pan", "zoom in", "zoom out", "roll", "all"],
)
def test_a_moving_camera_is_measured_to_half_a_pixel(truth):
    scene = textured(1)
    first, second = estimated(render(scene, np.eye(2, 3)), render(scene, truth))
    assert first is STANDING
    assert error(second, truth) < 0.5


def test_people_who_walk_do_not_matter_to_a_moving_camera():
    scene, cloth = textured(1), textured(3)
    truth = similarity(scale=1.02, shift=(11.0, 2.0))
    before = render(scene, np.eye(2, 3), [(60, 90, 90, 240, cloth), (400, 60, 110, 290, cloth)])
    after = render(scene, truth, [(49, 92, 90, 240, cloth), (425, 60, 110, 290, cloth)])
    assert error(estimated(before, after)[1], truth) < 0.8


def test_a_standing_camera_gives_exactly_the_identity_whoever_walks():
    scene, cloth = textured(1), textured(3)
    rng = np.random.default_rng(0)
    frames = []
    for step in range(6):  # half of the picture walks to the right
        people = [(20 + 7 * step, 30, 170, 320, cloth), (330 + 7 * step, 30, 140, 320, cloth[200:])]
        frame = render(scene, np.eye(2, 3), people)
        noise = rng.normal(0, 3, frame.shape)
        frames.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
    assert all(motion is STANDING for motion in estimated(*frames))
    assert (np.eye(2, 3) == STANDING).all()


def test_less_than_half_a_pixel_counts_as_standing():
    scene = textured(1)
    frames = [render(scene, similarity(shift=(0.8 * step, 0.0))) for step in range(3)]
    assert all(motion is STANDING for motion in estimated(*frames))


@pytest.mark.parametrize("other", ["cut", "black", "grey noise"])
def test_what_cannot_be_followed_moves_nobody(other):
    scene = textured(1)
    before = render(scene, np.eye(2, 3))
    after = {
        "cut": render(textured(3), np.eye(2, 3)),
        "black": np.zeros_like(before),
        "grey noise": np.random.default_rng(1).integers(0, 255, before.shape, np.uint8),
    }[other]
    assert [motion is STANDING for motion in estimated(before, after, before)] == [True] * 3


@pytest.mark.parametrize(
    "truth", [similarity(scale=1.5), similarity(degrees=25.0)], ids=["zoom", "roll"]
)
def test_a_motion_that_no_camera_makes_is_not_believed(truth):
    scene = textured(1)
    assert estimated(render(scene, np.eye(2, 3)), render(scene, truth))[1] is STANDING


def test_the_estimate_depends_on_two_pictures_only():
    scene = textured(1)
    frames = [render(scene, similarity(shift=(9.0 * step, 3.0 * step))) for step in range(4)]
    whole = estimated(*frames)
    cv2.setRNGSeed(77)
    late = CameraMotion(small_grey(LETTERBOX.apply(frames[2]), LETTERBOX))
    again = late.estimate(LETTERBOX.apply(frames[3]), LETTERBOX)
    assert again.tobytes() == whole[3].tobytes()


def test_another_size_of_picture_begins_anew():
    camera = CameraMotion(np.zeros((10, 10), np.uint8))
    frame = render(textured(1), np.eye(2, 3))
    assert camera.estimate(LETTERBOX.apply(frame), LETTERBOX) is STANDING
    assert camera.before.shape == (160, 284)


@pytest.mark.parametrize(
    ("source", "network", "small"),
    [
        ((1920, 1080), (576, 320), (284, 160)),
        ((1920, 1080), (960, 544), (320, 180)),
        ((100, 60), (576, 320), (266, 160)),
        ((1080, 1920), (320, 576), (160, 284)),
    ],
)
def test_small_pictures_have_no_borders_and_map_back_to_the_source(source, network, small):
    letterbox = Letterbox(*source, *network)
    frame = letterbox.place(np.full((*letterbox.scaled_size[::-1], 3), 200, np.uint8))
    grey = small_grey(frame, letterbox)
    assert grey.shape[::-1] == small
    assert (grey == 200).all()
    motion = to_source(np.array([[1.0, 0, 2.0], [0, 1.0, -1.0]]), letterbox)
    pixel = source[0] / letterbox.scaled_size[0] * round(max(letterbox.scaled_size) / 320)
    np.testing.assert_allclose(motion, [[1, 0, 2 * pixel], [0, 1, -pixel]], rtol=0.01)


def test_two_pictures_of_nothing_are_no_reason_to_stop():
    blank = np.full((40, 60), 7, np.uint8)
    assert motion_between(blank, blank) is STANDING
    assert motion_between(blank[:1, :1], blank[:1, :1]) is STANDING
