"""Read MATLAB files of versions 5 to 7, checked before any memory is allocated for their arrays.

scipy trusts sizes in the file: a few bytes can declare a cell array of billions of elements, unpack
to gigabytes, or nest arrays so deeply that the process dies. `read_mat` walks over the file first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray

MAX_BYTES = 1 << 30  # of a file, and of its unpacked content
MAX_DEPTH = 16  # of arrays in arrays; a .vbb has 4
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT = 1, 2
_PLAIN = frozenset({4, *range(6, 16)})  # characters, doubles, singles, integers


def read_mat(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Variables of a MATLAB file as scipy returns them: structs and cells are never squeezed.

    Args:
        path: The file.
        names: Variables that it must have.

    Raises:
        ValueError: If it cannot be read, is damaged, too large or lacks a variable, in one line
            without the file's name.
    """
    from scipy.io import loadmat

    data = _read(path)
    _check(data)
    try:
        found = loadmat(BytesIO(data), variable_names=list(names))
    except Exception as error:  # scipy raises anything on damaged files
        raise ValueError(f"no readable MATLAB file ({type(error).__name__}: {error})") from error
    for name in names:
        if name not in found:
            raise ValueError(f"got no variable {name}, which the original has")
    return {name: found[name] for name in names}


def variables(path: Path) -> list[str]:
    """Names of the variables of a MATLAB file.

    Raises:
        ValueError: As for `read_mat`.
    """
    from scipy.io import whosmat

    data = _read(path)
    _check(data)
    try:
        return [name for name, _, _ in whosmat(BytesIO(data))]
    except Exception as error:
        raise ValueError(f"no readable MATLAB file ({type(error).__name__}: {error})") from error


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"got {size} bytes, expected up to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def _check(data: bytes) -> None:
    """Refuse a file whose arrays are larger than their bytes, nested too deeply, or of no use."""
    if data[:10] == b"MATLAB 7.3":
        raise ValueError("got a file of -v7.3 (HDF5), expected one saved by MATLAB's save -v7")
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MATLAB file of version 5 to 7")
    order = "<" if data[126:128] == b"IM" else ">"
    position, room = _HEADER, MAX_BYTES
    while position < len(data):
        kind, start, size, after = _tag(data, position, len(data), order)
        if kind == _COMPRESSED:
            after = start + size  # the only element without padding
            unpacked = _unpack(data[start : start + size], room)
            room -= len(unpacked)
            _check_arrays(unpacked, order)
        else:
            _check_arrays(data[position:after], order)
        position = after


def _unpack(packed: bytes, room: int) -> bytes:
    reader = zlib.decompressobj()
    try:
        body = reader.decompress(packed, room + 1)
    except zlib.error as error:
        raise ValueError(f"a packed variable is damaged ({error})") from error
    if len(body) > room:
        raise ValueError(f"its variables unpack to more than {MAX_BYTES} bytes")
    return body


def _check_arrays(data: bytes, order: str) -> None:
    """Check all arrays of an element, with a list of ranges in place of recursion."""
    waiting = [(0, len(data), 1)]
    while waiting:
        position, end, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"arrays are nested more than {MAX_DEPTH} deep")
        while position < end:
            kind, start, size, position = _tag(data, position, end, order)
            if kind != _MATRIX:
                raise ValueError(f"got an element of type {kind}, expected an array")
            if size and (inside := _content(data, start, start + size, order)) is not None:
                waiting.append((inside, start + size, depth + 1))


def _content(data: bytes, start: int, end: int, order: str) -> int | None:
    """Where the arrays in a cell or struct begin; None for numbers and characters."""
    _, flags, size, position = _tag(data, start, end, order)
    if size < 4:
        raise ValueError("an array has no class")
    (word,) = struct.unpack_from(f"{order}I", data, flags)
    kind = word & 0xFF
    _, at, size, position = _tag(data, position, end, order)
    sides = struct.unpack_from(f"{order}{size // 4}i", data, at)
    if min(sides, default=0) < 0 or prod(sides) > end - start:
        raise ValueError(f"got an array of {sides} in {end - start} bytes")
    _, _, _, position = _tag(data, position, end, order)  # its name
    if kind in _PLAIN:
        return None
    if kind == _STRUCT:
        _, _, _, position = _tag(data, position, end, order)  # longest name of a field
        _, _, _, position = _tag(data, position, end, order)  # names
    elif kind != _CELL:
        raise ValueError(f"got an array of class {kind}, expected numbers, text, cells or structs")
    return position


def _tag(data: bytes, position: int, end: int, order: str) -> tuple[int, int, int, int]:
    """Type of an element, start and length of its content, start of the next element."""
    if position + 8 > end:
        raise ValueError(f"ends too early, at byte {position}")
    first, size = struct.unpack_from(f"{order}2I", data, position)
    if first >> 16:  # up to four bytes lie in the tag itself
        kind, size, start, after = first & 0xFFFF, first >> 16, position + 4, position + 8
        if size > 4:
            raise ValueError(f"a short element of {size} bytes at {position}")
        return kind, start, size, after
    start = position + 8
    if start + size > end:
        raise ValueError(f"ends too early: {size} bytes at {start}, of which {end - start} exist")
    return first, start, size, min(end, start + size + -size % 8)


def structs(value: Any, *names: str) -> list[dict[str, Any]]:
    """Elements of a struct array as mappings of these fields; none of an empty array.

    Raises:
        ValueError: If it is not a struct, or has no such field.
    """
    array = np.asarray(value)
    if not array.size:
        return []
    if array.dtype.names is None:
        raise ValueError(f"got {_kind(array)}, expected a struct with {', '.join(names)}")
    for name in names:
        if name not in array.dtype.names:
            raise ValueError(f"got a struct without {name}, expected {', '.join(names)}")
    return [{name: one[name] for name in names} for one in array.reshape(-1)]


def struct_of(value: Any, *names: str) -> dict[str, Any]:
    """The only element of a struct array.

    Raises:
        ValueError: As for `structs`, or if there are several or none.
    """
    found = structs(value, *names)
    if len(found) != 1:
        raise ValueError(f"got {len(found)} structs, expected one with {', '.join(names)}")
    return found[0]


def cells(value: Any) -> Iterator[Any]:
    """Elements of a cell array.

    Raises:
        ValueError: If it is none.
    """
    array = np.asarray(value)
    if array.size and (array.dtype != object or array.dtype.names is not None):
        raise ValueError(f"got {_kind(array)}, expected a cell array")
    yield from array.reshape(-1)


def numbers(value: Any, columns: int) -> FloatArray:
    """`(n, columns)` float64 of an array of any numeric type; `(0, columns)` of an empty one.

    Raises:
        ValueError: If it has other columns, or values that are no finite numbers.
    """
    array = np.asarray(value)
    if not array.size:
        return np.zeros((0, columns))
    if array.dtype.kind not in "iufb" or array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"got {_kind(array)}, expected numbers in {columns} columns")
    found = array.astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError("got a number that is not finite")
    return found


def number(value: Any) -> float:
    """The only number of an array.

    Raises:
        ValueError: If it is none.
    """
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"got {_kind(array)}, expected a number")
    return float(numbers(array.reshape(1, 1), 1)[0, 0])


def text(value: Any) -> str:
    """The only text of an array, also in cells of one element.

    Raises:
        ValueError: If it is none.
    """
    array = np.asarray(value)
    for _ in range(MAX_DEPTH):
        if array.size == 1 and array.dtype == object:
            array = np.asarray(array.reshape(-1)[0])
    if array.size != 1 or array.dtype.kind != "U":
        raise ValueError(f"got {_kind(array)}, expected text")
    return str(array.reshape(-1)[0])


def _kind(array: NDArray[Any]) -> str:
    kinds = {"U": "text", "O": "cells", "V": "structs"}
    return f"{'x'.join(map(str, array.shape))} {kinds.get(array.dtype.kind, 'numbers')}"
