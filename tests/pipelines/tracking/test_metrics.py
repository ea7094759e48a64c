from __future__ import annotations

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.serving import metrics as service
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.tracking.metrics import COUNTERS, GAUGES, exported, of_outcomes

VIDEO = Video("/archive/a.mp4", "a")


def test_videos_that_have_ended_are_counted_by_status_reason_and_cause() -> None:
    counts = Counts(frames=9, damaged=2, rows=30, tracks=4, dropped={"small": 5})
    sums = of_outcomes(
        [
            VideoOutcome(VIDEO, counts, 1.5),
            VideoOutcome(VIDEO, counts, 1.0, partial="truncated: at 9"),
            VideoOutcome(VIDEO, Counts(), 0.5, VideoError(Reason.STORAGE, "gone")),
        ]
    )
    assert sums == {
        ("jde_videos", "done"): 1,
        ("jde_videos", "partial"): 1,
        ("jde_videos", "failed"): 1,
        ("jde_videos_failed", "storage"): 1,
        ("jde_tracks", ""): 8,
        ("jde_rows", ""): 60,
        ("jde_damaged_frames", ""): 4,
        ("jde_dropped", "small"): 10,
        ("jde_stage_seconds", "associate"): 3.0,
    }
    assert {name for name, _ in sums} <= COUNTERS.keys()


def test_names_are_the_services_and_follow_prometheus() -> None:
    """A counter of a run is none of the service's gauges, nor the other way round."""
    assert not COUNTERS.keys() & service.GAUGES.keys()
    assert not GAUGES.keys() & service.COUNTERS.keys()
    assert {
        "jde_frames",
        "jde_detections",
        "jde_tracks",
    } <= COUNTERS.keys() & service.COUNTERS.keys()
    for name in (*COUNTERS, *GAUGES):
        assert name.startswith("jde_")
        assert not name.endswith("_total")
        assert exported(name).endswith("_total") == (name in COUNTERS)
