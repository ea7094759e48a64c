"""Values between modules check their shapes and convert."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from jde_ray.models.structures import Detections, Tracks


def detections(count: int = 3, dim: int = 4) -> Detections:
    tlbr = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    return Detections(tlbr, np.linspace(0.9, 0.5, count, dtype=np.float32), np.ones((count, dim)))


def tracks() -> Tracks:
    tlbr = np.array([[0.0, 10, 20, 60], [5.25, 5, 15, 45]])
    return Tracks(np.array([1, 7]), tlbr, np.array([0.9, 0.5], np.float32), np.array([1, 0]))


def test_shapes_are_checked_once():
    good = detections()
    with pytest.raises(ValueError, match="tlbr: got shape"):
        Detections(good.tlbr[:, :3], good.scores, good.embeddings)
    with pytest.raises(ValueError, match="embeddings: got shape"):
        Detections(good.tlbr, good.scores, good.embeddings[:1])
    with pytest.raises(ValueError, match="score: got shape"):
        Tracks(np.arange(2), np.zeros((2, 4)), np.zeros(3), np.arange(2))


def test_nothing_found_is_empty_arrays():
    empty = Detections.empty(128)
    assert len(empty) == 0
    assert (empty.tlbr.shape, empty.embeddings.shape) == ((0, 4), (0, 128))
    assert list(Tracks.empty()) == []
    assert Tracks.empty().to_mot(0) == []
    assert Tracks.empty().to_arrow().num_rows == 0


def test_detections_are_selected_by_row():
    some = detections()[np.array([True, False, True])]
    assert len(some) == 2
    assert some.tlbr[1].tolist() == [8, 9, 10, 11]
    assert repr(some) == "Detections(N=2, D=4)"


def test_tracks_iterate_as_rows():
    first, second = tracks()
    assert (first.track_id, first.score) == (1, pytest.approx(0.9))
    assert second.tlbr.tolist() == [5.25, 5, 15, 45]


def test_mot_text_counts_from_one():
    assert tracks().to_mot(frame_index=4) == [
        "5,1,1.00,11.00,20.00,50.00,0.9000,-1,-1,-1",
        "5,7,6.25,6.00,9.75,40.00,0.5000,-1,-1,-1",
    ]


def test_arrow_columns_are_those_of_the_rows():
    table = tracks().to_arrow()
    assert table.column_names == ["track_id", "x1", "y1", "x2", "y2", "score"]
    assert table["track_id"].to_pylist() == [1, 7]
    assert table["y2"].to_pylist() == [60, 45]


def test_supervision_gets_its_own_type(monkeypatch):
    class Fake:
        @staticmethod
        def Detections(**values):  # noqa: N802
            return values

    monkeypatch.setitem(sys.modules, "supervision", Fake)
    values = tracks().to_supervision()
    assert values["tracker_id"].tolist() == [1, 7]
    assert values["xyxy"].shape == (2, 4)
