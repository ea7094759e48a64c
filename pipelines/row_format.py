"""The number of the format of `tracks/` and `detections/`, which every run records.

Raise it when a column, the meaning of a row, or the metadata changes. All formats can be read; a
run continues only in an OUT of its own format.

1.  Ids with 8 hex digits.
2.  Ids with 16 hex digits and the letters of all languages; `num_tracks`, `num_detections` and
    `video_version` in the metadata, which is the Arrow schema's too; no wide boxes in
    `mode: published`.
3.  `camera_motion` in `detections/`.
4.  `camera`, `time` and `class` (`classes` in `detections/`); `camera` and `start` in the metadata.
5.  `qualities` in `detections/`, of networks that tell the quality of a picture.
"""

from __future__ import annotations

ROW_FORMAT = 5
