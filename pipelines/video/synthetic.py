"""Write rendered street scenes as videos with ground truth, for machines without data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from jde_ray.models.synthetic.scene import StreetScene


def render_street(scene: StreetScene, path: Path, folder: Path) -> None:
    """Write a video and its ground truth as MOTChallenge text.

    Args:
        scene: Scene to render.
        path: Video to write; its stem is the sequence's name.
        folder: Folder of the sequence, for `gt/gt.txt` and, written last, `seqinfo.ini`.
    """
    import numpy as np

    from jde_ray.models.synthetic.render import render
    from jde_ray.pipelines.formats.mot import format_ground_truth, rows_of_frames
    from jde_ray.pipelines.formats.sequence_info import SequenceInfo, format_sequence_info
    from jde_ray.pipelines.video.encoder import write_video

    truths = []
    truth_path = folder / "gt" / "gt.txt"
    rate = scene.frames_per_second

    def frames() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for index, (image, truth) in enumerate(render(scene)):
            truths.append(truth)
            yield index / rate, image

    for file in (path, truth_path):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_video(frames(), path, rate)
    rows = rows_of_frames((i, truth.track_id, truth.tlbr) for i, truth in enumerate(truths))
    visibility = np.concatenate([truth.visibility for truth in truths])
    truth_path.write_text(format_ground_truth(rows, visibility))
    size = (scene.width, scene.height)
    info = SequenceInfo(path.stem, rate, scene.num_frames, *size, "img1", ".jpg")
    (folder / "seqinfo.ini").write_text(format_sequence_info(info))  # marks it as complete
