"""A Parquet file that is written row group by row group, and kept in memory while it is small.

The bytes depend only on the rows and the metadata. Files are read in place, so that a reader holds
one row group and not the file. Works without Ray.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.pipelines.storage.base import Body, ObjectStore

# share of a row group below which a file is not compressed: zstd starts anew for every page, which
# takes as long as all else and saves some kilobytes
_SHORT = 1 / 16


def open_parquet(store: ObjectStore, key: str) -> pq.ParquetFile:
    """Open a Parquet file of a store; row groups are read on demand.

    Raises:
        OSError: If it cannot be read; FileNotFoundError if it does not exist.
        pyarrow.ArrowException: If it is not a Parquet file.
    """
    return pq.ParquetFile(store.open(key), pre_buffer=False)


def fingerprint(file: pq.FileMetaData) -> str:
    """16 hex digits that differ between two Parquet files of different rows or metadata.

    They are made of the file's footer: its metadata, and size, extremes and counts of each column.
    """
    text = json.dumps([file.to_dict(), sorted((file.metadata or {}).items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_schema(schema: pa.Schema, metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata for `add_key_value_metadata` that includes an Arrow schema with the same metadata.

    A writer stores its schema when it opens the file, before values such as `num_frames` are known.
    The schema given here replaces it, for readers of `pq.read_schema(path).metadata` and
    `pq.read_table(path).schema.metadata`.
    """
    schema = schema.remove_metadata().with_metadata(dict(metadata))
    stored = base64.b64encode(schema.serialize().to_pybytes()).decode()
    return {**metadata, "ARROW:schema": stored}


def binary_array(vectors: NDArray[Any]) -> pa.Array:
    """Vectors `(n, D)` as float16, in a fixed-size binary column of 2 D bytes."""
    count, width = vectors.shape
    content = np.ascontiguousarray(vectors, np.float16)
    buffers = [None, pa.py_buffer(content.tobytes())]
    return pa.Array.from_buffers(pa.binary(2 * width), count, buffers)


def vectors_of(column: pa.Array) -> NDArray[np.float16]:
    """`(n, D)` vectors of a binary column; runs write values of fixed size, others may not.

    Raises:
        ValueError: If it holds something else.
    """
    if not pa.types.is_fixed_size_binary(column.type):
        values = column.to_pylist()
        if not all(isinstance(value, bytes) for value in values):
            got = f"nulls or values of type {column.type}"
            raise ValueError(f"embedding: got {got}, expected binary without nulls")
        joined = b"".join(values)
        return np.frombuffer(joined, np.float16).reshape(len(column), -1 if joined else 0)
    width = column.type.byte_width // 2
    if not width or not len(column):
        return np.zeros((len(column), width), np.float16)
    content = np.frombuffer(column.buffers()[1], np.float16).reshape(-1, width)
    return content[column.offset : column.offset + len(column)]


def list_array(vectors: NDArray[Any]) -> pa.Array:
    """Vectors `(n, D)` as lists of float32, which pandas, DuckDB and Polars know."""
    count, width = vectors.shape
    if not width:
        return pa.array([[]] * count, pa.list_(pa.float32()))
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(ends, flat)


class ParquetFile:
    """A Parquet file of fixed-size row groups, whose metadata is given when it is closed.

    The metadata is stored for the file (`pq.read_metadata(path).metadata`) and for its Arrow schema
    (`pq.read_schema(path).metadata`). A file of one row group is never written to disk. With
    `has_parts`, the rows since the last call of `take_part` are also written to a file of their
    own, for a checkpoint.

    Args:
        path: Path of the file once it has a full row group; files of parts are beside it.
        schema: Arrow schema of the rows.
        group_rows: Rows per row group.
        has_parts: Whether `take_part` will be called.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_rows: int, has_parts: bool) -> None:
        self._path, self._schema, self._group_rows = path, schema, group_rows
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._has_parts = has_parts
        self._part: pq.ParquetWriter | None = None
        self._num_parted = 0  # number of waiting rows that a part holds already

    def append(self, table: pa.Table) -> None:
        """Append rows of the file's schema and write the row groups that are full."""
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        if self._num_waiting >= self._group_rows:
            self._flush(self._num_waiting - self._num_waiting % self._group_rows)

    def take_part(self) -> Path | None:
        """Path of a file with the rows since the last call; None if there are none."""
        if self._num_waiting > self._num_parted:
            self._write_part(pa.concat_tables(self._waiting), self._num_waiting)
        if self._part is None:
            return None
        self._part.close()
        self._part = None
        return self._part_path

    def restore(self, part: io.BytesIO) -> None:
        """Append the rows of a part."""
        file, has_parts = pq.ParquetFile(part), self._has_parts
        self._has_parts = False
        for group in range(file.num_row_groups):
            self.append(file.read_row_group(group).cast(self._schema))
        self._has_parts, self._num_parted = has_parts, self._num_waiting

    def close(self, metadata: Mapping[str, str]) -> Body:
        """Close the file; return its content, or its path if it is on disk."""
        self._has_parts = False
        memory = pa.BufferOutputStream() if self._writer is None else None
        if memory is not None:
            is_short = self._num_waiting < _SHORT * self._group_rows
            self._writer = _parquet_writer(memory, self._schema, is_short=is_short)
        if self._num_waiting:
            self._flush(self._num_waiting)
        assert self._writer is not None  # noqa: S101
        self._writer.add_key_value_metadata(with_schema(self._schema, metadata))
        self.abandon()
        return self._path if memory is None else memory.getvalue().to_pybytes()

    def abandon(self) -> None:
        """Close all open files without completing them."""
        for writer in (self._writer, self._part):
            if writer is not None:
                writer.close()
        self._writer = self._part = None

    @property
    def _part_path(self) -> Path:
        return self._path.with_suffix(".part")

    def _flush(self, rows: int) -> None:
        waiting = self._waiting
        table = waiting[0] if len(waiting) == 1 else pa.concat_tables(waiting)
        table = table.combine_chunks()
        if self._has_parts:
            self._write_part(table, rows)
        self._num_parted = max(0, self._num_parted - rows)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _parquet_writer(self._path, self._schema)
        self._writer.write_table(table.slice(0, rows), row_group_size=self._group_rows)
        rest = table.slice(rows)
        self._waiting = [rest] if rest.num_rows else []
        self._num_waiting = rest.num_rows

    def _write_part(self, table: pa.Table, rows: int) -> None:
        """Write to the part those of the first `rows` waiting rows that no part holds yet."""
        new = table.slice(self._num_parted, rows - self._num_parted)
        if new.num_rows <= 0:
            return
        if self._part is None:
            self._part_path.parent.mkdir(parents=True, exist_ok=True)
            self._part = _parquet_writer(self._part_path, self._schema)
        self._part.write_table(new.combine_chunks())
        self._num_parted = rows


def is_damage(error: BaseException) -> bool:
    """Whether Arrow says with an error that a file is damaged.

    Of some damage it raises an OSError, but one without a number; those of a store are of kinds of
    their own.
    """
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


def _parquet_writer(
    path: Path | pa.BufferOutputStream, schema: pa.Schema, *, is_short: bool = False
) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="none" if is_short else "zstd",
        compression_level=None if is_short else 3,
        use_dictionary=list(_repetitive(schema)),
    )


def _repetitive(schema: pa.Schema) -> Iterator[str]:
    """Columns whose values repeat: texts, numbers of frames, times; no coordinates, no embeddings.

    With a dictionary of values that all differ a file is a quarter larger, and takes longer.
    """
    types = pa.types
    for field in schema:
        path, kind = field.name, field.type
        while types.is_list(kind) or types.is_fixed_size_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if not (types.is_float32(kind) or types.is_fixed_size_binary(kind)):
            yield path
