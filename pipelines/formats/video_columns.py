"""Columns of `tracks/` and `detections/` that say which camera saw a row, when, and whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jde_ray.pipelines.wall_clock import to_microseconds

TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us", tz="UTC")
PERSON = "person"  # the one class that our networks know


def plain_array(values: NDArray[Any]) -> pa.Array:
    """A column of numbers without nulls, which shares the memory of contiguous `(n,)` values.

    `pyarrow.array` would import pandas, which takes half a second, to see whether it got its types.
    """
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def numbers_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """`(n,)` values of a column; numbers without nulls are read without an import of pandas."""
    kind = column.type
    is_plain = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not is_plain or column.null_count:
        return np.asarray(column.to_numpy())
    dtype = np.dtype(kind.to_pandas_dtype())
    parts = [
        np.frombuffer(part.buffers()[1], dtype)[part.offset : part.offset + len(part)]
        for part in column.chunks
        if len(part)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def floats_of(table: pa.Table, name: str, place: str = "") -> NDArray[np.float64]:
    """`(n,)` values of a column of numbers; NaN where it is null.

    Raises:
        ValueError: If it holds something else, in one line that names the column, and `place`
            before it.
    """
    kind, types = table.schema.field(name).type, pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if len(table) and not is_number:
        where = f"{place}: {name}" if place else name
        raise ValueError(f"{where}: got values of type {kind}, expected numbers")
    return np.asarray(table.column(name).to_numpy(), np.float64)


def as_array(values: Any) -> pa.Array:
    """Values, or the chunks of a column, as one array."""
    if isinstance(values, pa.ChunkedArray):
        return pa.concat_arrays(values.unify_dictionaries().chunks) if values.num_chunks else values
    return values if isinstance(values, pa.Array) else pa.array(values)


def cast_to(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The values as another type, which may be a dictionary."""
    if values.type == wanted:
        return values
    if pa.types.is_dictionary(wanted):
        return values.cast(wanted.value_type).dictionary_encode().cast(wanted)
    return values.cast(wanted)


def repeated(text: str | None, count: int) -> pa.Array:
    """A dictionary column with the same text, or null, in every row."""
    if text is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()), pa.nulls(0, pa.string()))
    content = text.encode()
    ends = pa.py_buffer(np.array([0, len(content)], np.int32))
    texts = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(content)])
    return pa.DictionaryArray.from_arrays(plain_array(np.zeros(count, np.int32)), texts)


def clock_times(start: datetime | int | None, time_s: NDArray[np.float64]) -> pa.Array:
    """Wall-clock times in UTC, to the microsecond: the start and `time_s`; null without a start.

    Args:
        start: Start of the video, as a time or in microseconds since 1970.
        time_s: `(n,)` seconds since the start.
    """
    if start is None:
        return pa.nulls(len(time_s), TIME)
    first = to_microseconds(start) if isinstance(start, datetime) else start
    return plain_array(first + np.rint(time_s * 1e6).astype(np.int64)).view(TIME)


def seconds_and_start(table: pa.Table) -> tuple[NDArray[np.float64] | None, int | None]:
    """`(n,)` seconds of all rows since the video's start, and the start; None if not known.

    Args:
        table: Rows of one video with the columns `time_s` and `time`, or without them.

    Returns:
        Seconds, and microseconds since 1970.
    """
    seconds = floats_of(table, "time_s") if "time_s" in table.column_names else None
    if "time" not in table.column_names or not len(table) or table.column("time").null_count:
        return seconds, None
    moments = table.column("time").cast(TIME, safe=False).cast(pa.int64()).to_numpy()
    if seconds is None:
        return (moments - moments[0]) / 1e6, int(moments[0])
    return seconds, int(moments[0]) - round(float(seconds[0]) * 1e6)


def check_columns(names: Sequence[str], wanted: Sequence[str], where: str = "") -> None:
    """Refuse columns of which one that is wanted is missing, or one is there twice.

    Args:
        names: The columns.
        wanted: Those that must be among them.
        where: Text before the message, such as the file's name.

    Raises:
        ValueError: Naming the column.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{where}no column {missing[0]}, expected {', '.join(wanted)}")
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise ValueError(f"{where}got {names.count(twin)} columns {twin}, expected one")


def is_own(field: pa.Field) -> bool:
    """Whether a column of one of these names is of a kind that runs write, not someone else's."""
    if field.name == "time":
        return bool(pa.types.is_timestamp(field.type))
    if field.name in ("camera", "class"):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return True
