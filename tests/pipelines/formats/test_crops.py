from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.pipelines.formats.crops import Crop, best_crops, encode_crops, facts_of_crops
from jde_ray.pipelines.structures import Video

VIDEO = Video("/videos/a.mp4", "a")


def crop(track_id: int, rank: int) -> Crop:
    return Crop(
        track_id=track_id,
        rank=rank,
        frame=rank,
        time_s=rank / 10,
        tlbr=np.array([0.0, 0.0, 9.0, 9.0]),
        score=0.5,
        cut=(0, 0, 9, 9),
        file=f"{track_id}-{rank}.jpg",
    )


def test_the_best_picture_of_each_track_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = [crop(1, 1), crop(1, 2), crop(7, 2), crop(7, 1)]
    body = encode_crops(VIDEO, crops, facts_of_crops(VIDEO, "none", 2), tmp_path)
    assert isinstance(body, bytes)
    monkeypatch.delattr(pa, "compute", raising=False)  # nothing imports it in a new process
    assert best_crops(pq.ParquetFile(pa.BufferReader(body))) == {1: "1-1.jpg", 7: "7-1.jpg"}
