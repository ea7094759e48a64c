"""What must hold for the tracks of every tracker."""

import numpy as np


def check_ids(frames, found, longest_gap=None):
    """Ids are new once and count up, and a detection belongs to one track.

    `found` holds the tracks of each frame; `longest_gap` the frames for which a track may go
    unreported.
    """
    highest, last_seen = 0, {}
    for number, (frame, tracks) in enumerate(zip(frames, found, strict=True)):
        ids = tracks.track_id.tolist()
        assert len(set(ids)) == len(ids) == len(set(tracks.detection_index.tolist()))
        assert all(0 <= index < len(frame) for index in tracks.detection_index)
        assert np.isfinite(tracks.tlbr).all()
        new = [track_id for track_id in ids if track_id not in last_seen]
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)
        for track_id in ids:
            gap = number - last_seen.get(track_id, number)
            assert longest_gap is None or gap <= longest_gap
            last_seen[track_id] = number


def check_order(here, there, scene, seed):
    """The same detections in another order give two trackers the same tracks, but for their ids."""
    rng = np.random.default_rng(seed)
    same_person = {}
    for frame in scene:
        order = rng.permutation(len(frame))
        a = here.update(frame.tlbr, frame.scores, frame.embeddings)
        b = there.update(frame.tlbr[order], frame.scores[order], frame.embeddings[order])
        track_of = dict(zip(order[b.detection_index], b.track_id, strict=True))
        assert sorted(track_of) == sorted(a.detection_index)
        for index, track_id in zip(a.detection_index, a.track_id, strict=True):
            assert same_person.setdefault(track_id, track_of[index]) == track_of[index]
