"""Read MATLAB files of versions 5 to 7: numbers, text, cells and structs.

A reader of our own, since scipy's trusts the file: damaged ones crash the process, and a few bytes
can declare an array of gigabytes. Arrays are returned as scipy does: structs as structured arrays
of objects, cells as arrays of objects, text as arrays of strings, and nothing is squeezed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
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
_CELL, _STRUCT, _TEXT = 1, 2, 4
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
_NUMBERS = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"
}  # fmt: skip
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_LEAST = 8  # bytes of an array in a cell or struct


def read_mat(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Variables of a MATLAB file.

    Args:
        path: The file.
        names: Variables that it must have.

    Raises:
        ValueError: If it cannot be read, is damaged, too large or lacks a variable, in one line
            without the file's name.
    """
    found = _parse(_read(path))
    for name in names:
        if name not in found:
            has = ", ".join(found)[:100] or "none"
            raise ValueError(f"got no variable {name}, which the original has, but {has}")
    return found


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"got {size} bytes, expected up to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def _parse(data: bytes) -> dict[str, NDArray[Any]]:
    if data[:10] == b"MATLAB 7.3":
        raise ValueError("got a file of -v7.3 (HDF5), expected one saved by MATLAB's save -v7")
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MATLAB file of version 5 to 7")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, NDArray[Any]] = {}
    position, room = _HEADER, MAX_BYTES
    while position < len(data):
        kind, start, size, after = _tag(data, position, len(data), order)
        body, at = data, position
        if kind == _COMPRESSED:
            after = start + size  # the only element without padding
            body, at = _unpack(data[start:after], room), 0
            room -= len(body)
        name, value, _ = _array(body, at, len(body), order, 1)
        found[name] = value
        position = after
    return found


def _unpack(packed: bytes, room: int) -> bytes:
    reader = zlib.decompressobj()
    try:
        body = reader.decompress(packed, room + 1)
    except zlib.error as error:
        raise ValueError(f"a packed variable is damaged ({error})") from error
    if len(body) > room:
        raise ValueError(f"its variables unpack to more than {MAX_BYTES} bytes")
    return body


def _array(
    data: bytes, position: int, end: int, order: str, depth: int
) -> tuple[str, NDArray[Any], int]:
    """Name and content of the array at a position, and where the next one begins."""
    kind, start, size, after = _tag(data, position, end, order)
    if kind != _MATRIX:
        raise ValueError(f"got an element of type {kind}, expected an array")
    if depth > MAX_DEPTH:
        raise ValueError(f"arrays are nested more than {MAX_DEPTH} deep")
    if not size:
        return "", np.zeros((0, 0)), after
    end = start + size
    what, sides, name, position = _declared(data, start, end, order)
    if what == _CELL:
        inside = _several(data, position, end, order, depth, prod(sides))
        return name, _objects(inside, sides), after
    if what == _STRUCT:
        return name, _struct(data, position, end, order, depth, sides), after
    if what == _TEXT:
        return name, _letters(data, position, end, order, sides), after
    if what not in _NUMBERS:
        raise ValueError(f"got an array of class {what}, expected numbers, text, cells or structs")
    values = _stored(data, position, end, order)
    if len(values) != prod(sides):
        raise ValueError(f"got {len(values)} numbers for an array of {sides}")
    with np.errstate(invalid="ignore"):
        return name, values.astype(_NUMBERS[what]).reshape(sides, order="F"), after


def _declared(
    data: bytes, start: int, end: int, order: str
) -> tuple[int, tuple[int, ...], str, int]:
    """Class, sides and name of an array, and where its content begins."""
    _, flags, flags_size, position = _tag(data, start, end, order)
    _, at, sides_size, position = _tag(data, position, end, order)
    _, name_at, name_size, position = _tag(data, position, end, order)  # of a variable
    if flags_size < 4:
        raise ValueError("an array has no class")
    (word,) = struct.unpack_from(f"{order}I", data, flags)
    sides = struct.unpack_from(f"{order}{sides_size // 4}i", data, at)
    if not sides or min(sides) < 0 or prod(sides) > end - start:
        raise ValueError(f"got an array of {sides} in {end - start} bytes")
    return word & 0xFF, sides, data[name_at : name_at + name_size].decode("latin-1"), position


def _several(
    data: bytes, position: int, end: int, order: str, depth: int, count: int
) -> list[NDArray[Any]]:
    """That many arrays, one after the other."""
    if count * _LEAST > end - position:
        raise ValueError(f"got {count} arrays in {end - position} bytes")
    found = []
    for _ in range(count):
        _, value, position = _array(data, position, end, order, depth + 1)
        found.append(value)
    return found


def _objects(items: list[NDArray[Any]], sides: tuple[int, ...]) -> NDArray[Any]:
    made = np.empty(len(items), object)
    for place, item in enumerate(items):
        made[place] = item
    return made.reshape(sides, order="F")


def _struct(
    data: bytes, position: int, end: int, order: str, depth: int, sides: tuple[int, ...]
) -> NDArray[Any]:
    """A struct array: the fields of its first element, then those of the second, and so on."""
    _, at, size, position = _tag(data, position, end, order)
    longest = int.from_bytes(data[at : at + size], "little" if order == "<" else "big")
    _, at, size, position = _tag(data, position, end, order)
    if not 0 < longest <= 64 or size % longest:
        raise ValueError(f"got names of fields of {longest} bytes, expected up to 64")
    names = [
        data[place : place + longest].partition(b"\0")[0].decode("latin-1")
        for place in range(at, at + size, longest)
    ]
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"got the fields {', '.join(names)[:100]}, expected different names")
    if not names:
        return np.zeros((0, 0))
    values = _several(data, position, end, order, depth, prod(sides) * len(names))
    made = np.empty(prod(sides), [(name, object) for name in names])
    for place, name in enumerate(names):
        made[name] = _objects(values[place :: len(names)], (prod(sides),))
    return made.reshape(sides, order="F")


def _letters(
    data: bytes, position: int, end: int, order: str, sides: tuple[int, ...]
) -> NDArray[Any]:
    """Text, a string per row."""
    kind, start, size, _ = _tag(data, position, end, order)
    if kind not in _ENCODINGS:
        raise ValueError(f"got text of type {kind}")
    encoding = _ENCODINGS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    try:
        letters = data[start : start + size].decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"got text that is no {encoding}") from error
    num_rows = sides[0]
    if len(letters) != prod(sides):
        raise ValueError(f"got {len(letters)} letters for text of {sides}")
    if not letters:
        return np.zeros(0, "<U1")
    return np.array([letters[row::num_rows] for row in range(num_rows)])


def _stored(data: bytes, position: int, end: int, order: str) -> NDArray[Any]:
    kind, start, size, _ = _tag(data, position, end, order)
    if kind not in _STORED:
        raise ValueError(f"got numbers of type {kind}")
    dtype = np.dtype(f"{order}{_STORED[kind]}")
    return np.frombuffer(data, dtype, size // dtype.itemsize, start)


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
