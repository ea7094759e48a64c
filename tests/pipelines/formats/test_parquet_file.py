"""Size of the files, by what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.pipelines.formats.detections import detection_schema
from jde_ray.pipelines.formats.parquet_file import ParquetFile
from jde_ray.pipelines.formats.tracks import track_schema


def column(kind: pa.DataType, count: int) -> pa.Array:
    """Values that all differ where their kind allows it."""
    if pa.types.is_dictionary(kind):
        return pa.array(["door"] * count).dictionary_encode().cast(kind)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.array([None] * count, kind)
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([index.to_bytes(kind.byte_width) for index in range(count)], kind)
    return pa.array(np.arange(count)).cast(kind)


def written(schema: pa.Schema, num_rows: int, group_rows: int, path: Path) -> bytes:
    file = ParquetFile(path, schema, group_rows, has_parts=False)
    columns = [column(field.type, num_rows) for field in schema]
    file.append(pa.Table.from_arrays(columns, schema=schema))
    content = file.close({})
    assert isinstance(content, bytes)
    return content


@pytest.mark.parametrize(
    ("schema", "plain"),
    [
        (track_schema(8), {"x1", "y1", "x2", "y2", "score", "embedding"}),
        (detection_schema(8, has_motion=True), {"boxes", "scores", "embeddings"}),
    ],
)
def test_coordinates_scores_and_vectors_have_no_dictionary(
    schema: pa.Schema, plain: set[str], tmp_path: Path
) -> None:
    content = written(schema, 40, 64, tmp_path / "file")
    group = pq.read_metadata(pa.BufferReader(content)).row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    without = {one.path_in_schema.split(".")[0] for one in columns if not one.has_dictionary_page}
    assert without == plain


@pytest.mark.parametrize(("num_rows", "codec"), [(63, "UNCOMPRESSED"), (64, "ZSTD")])
def test_short_files_are_not_compressed(num_rows: int, codec: str, tmp_path: Path) -> None:
    content = written(track_schema(), num_rows, 1024, tmp_path / "file")
    group = pq.read_metadata(pa.BufferReader(content)).row_group(0)
    assert {group.column(place).compression for place in range(group.num_columns)} == {codec}
