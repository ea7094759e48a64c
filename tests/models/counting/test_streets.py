"""Counts of synthetic streets, whose walks are known."""

import numpy as np
import pytest
from counting_reference import reference, short

from jde_ray.models.counting.geometry import feet
from jde_ray.models.counting.places import Line, Places, Rules, Zone
from jde_ray.models.counting.whole import count_events
from jde_ray.models.synthetic.scene import StreetScene, build_layout

WIDTH, HEIGHT, RATE = 640, 360, 20.0
GATE = Line("gate", (320, 350), (320, 60))
KERB = Line("kerb", (20, 260), (620, 230))
SQUARE = Zone("square", ((200, 150), (440, 150), (520, 330), (120, 330)))
STILL = [105, 106, 107, 108]  # seeds whose camera stands still


def true_tracks(seed):
    """Frames, times, ids and boxes of the people who are in the picture, and the scene."""
    scene = StreetScene(
        seed, width=WIDTH, height=HEIGHT, frames_per_second=RATE, num_frames=600, num_people=8
    )
    layout, rows = build_layout(scene), []
    assert layout.camera.pan_px == 0
    for frame in range(scene.num_frames):
        for walker in layout.walkers:
            share, _ = walker.progress(frame / RATE)
            x, z = walker.position(share)
            if not 0 <= share <= 1 or z <= 0:
                continue
            across, down = layout.camera.project(x, z)
            if 0 <= across <= WIDTH and down <= HEIGHT:
                tall = 1.7 * layout.camera.scale(z)
                box = (across - tall / 5, down - tall, across + tall / 5, down)
                rows.append((frame, frame / RATE, walker.track_id, *box))
    frame, time_s, ids, *corners = map(np.array, zip(*rows, strict=True))
    return (frame, time_s, ids, np.stack(corners, axis=1)), layout


@pytest.mark.parametrize("seed", STILL)
def test_counts_and_dwell_of_true_tracks_are_exact(seed):
    columns, _ = true_tracks(seed)
    places, rules = Places((GATE, KERB), (SQUARE,)), Rules()
    counted = [short(one) for one in count_events(places, rules, *columns).to_list()]
    frame, time_s, ids, tlbr = columns
    rows = [column.tolist() for column in (frame, time_s, ids, *feet(tlbr))]
    assert counted == reference(places, rules, list(zip(*rows, strict=True)))
    assert len(counted) > 8


def test_crossings_are_those_of_the_walks_themselves():
    """The gate is the plane x = 0 of the street, so the walks tell who passes it, and which way."""
    number = 0
    for seed in STILL:
        columns, layout = true_tracks(seed)
        gate = Line("gate", (320, HEIGHT), (320, 0), margin=0.0)
        events = count_events(Places((gate,)), Rules(max_gap_s=100), *columns).to_list()
        seen = {ids: columns[1][columns[2] == ids] for ids in np.unique(columns[2]).tolist()}
        expected = []
        for walker in layout.walkers:
            if walker.track_id not in seen:
                continue
            first, last = seen[walker.track_id][[0, -1]]
            times = np.linspace(first, last, 4001)
            x = np.array([walker.position(walker.progress(t)[0])[0] for t in times.tolist()])
            turns = np.flatnonzero((x[1:] > 0) != (x[:-1] > 0))
            expected += [(walker.track_id, bool(x[turn + 1] > 0)) for turn in turns.tolist()]
        told = [(one.track_id, one.direction == 0) for one in events]
        assert sorted(told) == sorted(expected)
        number += len(told)
    assert number > 20
