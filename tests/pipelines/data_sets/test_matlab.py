from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from original_layouts import cell, mat, struct_array
from scipy.io import loadmat, savemat

from jde_ray.pipelines.data_sets import matlab
from jde_ray.pipelines.data_sets.matlab import (
    cells,
    number,
    numbers,
    read_mat,
    struct_of,
    structs,
    text,
)


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def array(kind: int, sides: tuple[int, ...], *content: bytes) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(14, flags + element(5, struct.pack(f"<{len(sides)}i", *sides))
                   + element(1, b"A") + b"".join(content))  # fmt: skip


def file(path: Path, body: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + body)
    return path


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_matlab_writes_is_read(tmp_path: Path, is_packed):
    inside = struct_array(("id", "pos"), [(np.uint8([[3]]), np.array([[1.5, -2, 3, 4]]))])
    content = BytesIO()
    one = {"list": cell([inside, np.zeros((0, 0))]), "name": "p1"}
    savemat(content, {"A": one}, do_compression=is_packed)
    path = tmp_path / "a.mat"
    path.write_bytes(content.getvalue())
    assert list(read_mat(path)) == ["A"]
    one = struct_of(read_mat(path, "A")["A"], "list", "name")
    first, second = cells(one["list"])
    (person,) = structs(first, "id", "pos")
    assert (number(person["id"]), numbers(person["pos"], 4).tolist()) == (3, [[1.5, -2, 3, 4]])
    assert structs(second, "id") == []
    assert text(one["name"]) == "p1"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (array(1, (1, 1_000_000_000)), "got an array of (1, 1000000000)"),
        (array(2, (50_000, 50_000), element(5, b"\1\0\0\0"), element(1, b"a")), "got an array of"),
        (array(2, (1, 1), element(5, b"\0\0\0\0"), element(1, b"a")), "names of fields of 0"),
        (array(1, (1, 9), element(9, b"\0" * 8)), "got 9 arrays in 16 bytes"),
        (array(6, (1, 2), element(9, b"\0" * 8)), "got 1 numbers for an array of (1, 2)"),
        (array(4, (1, 2), element(4, b"a\0")), "got 1 letters for text of (1, 2)"),
        (array(6, (-1, 4), element(9, b"")), "got an array of (-1, 4)"),
        (array(17, (1, 1)), "of class 17"),
        (array(5, (1, 1)), "of class 5"),  # sparse
        (element(9, b"12345678"), "an element of type 9"),
        (struct.pack("<II", 14, 1 << 31), "ends too early"),
        (struct.pack("<II", 15, 8) + b"no zlib!", "packed variable is damaged"),
        (b"1234", "ends too early"),
    ],
)
def test_a_file_that_is_larger_inside_than_outside_is_refused(tmp_path: Path, body, reason):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - compared below
        read_mat(file(tmp_path / "a.mat", body), "A")
    assert reason in str(refused.value)


def test_deep_nesting_is_refused_before_anything_recurses(tmp_path: Path):
    body = array(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(40):
        body = array(1, (1, 1), body)
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        read_mat(file(tmp_path / "a.mat", body), "A")


def test_a_variable_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(matlab, "MAX_BYTES", 100_000)
    packed = zlib.compress(array(6, (1, 100_000), element(9, b"\0" * 800_000)))
    with pytest.raises(ValueError, match="unpack to more than 100000 bytes"):
        read_mat(file(tmp_path / "a.mat", struct.pack("<II", 15, len(packed)) + packed), "A")


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(200))
    with pytest.raises(ValueError, match=r"-v7\.3"):
        read_mat(path, "A")
    with pytest.raises(ValueError, match="cannot be read"):
        read_mat(tmp_path / "none.mat", "A")
    with pytest.raises(ValueError, match="no variable B"):
        read_mat(mat(tmp_path / "b.mat", A=1.0), "B")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: structs(np.ones((1, 2)), "a"), "got 1x2 numbers, expected a struct with a"),
        (lambda: structs(struct_array(("b",), [(1,)]), "a"), "a struct without a"),
        (lambda: struct_of(struct_array(("a",), [(1,), (2,)]), "a"), "got 2 structs"),
        (lambda: list(cells(np.ones((1, 2)))), "expected a cell array"),
        (lambda: numbers(np.ones((2, 3)), 4), "got 2x3 numbers, expected numbers in 4 columns"),
        (lambda: numbers(np.full((1, 4), np.nan), 4), "not finite"),
        (lambda: number(np.ones((2, 2))), "expected a number"),
        (lambda: text(np.ones((1, 1))), "expected text"),
        (lambda: text(cell([cell(["a", "b"])])), "expected text"),
    ],
)
def test_odd_nesting_is_refused_with_what_was_expected(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


def test_it_reads_what_scipy_reads(tmp_path: Path):
    listed = cell([np.arange(6, dtype=np.int16).reshape(2, 3), "text"])
    rows = [(np.uint8([[1]]), np.zeros((0, 10))), ("x", np.array([[1.5]]))]
    path = mat(tmp_path / "a.mat", A=listed, B=struct_array(("a", "b"), rows))
    ours, theirs = read_mat(path), loadmat(path)
    for name in ("A", "B"):
        assert ours[name].shape == theirs[name].shape
        assert repr(ours[name]) == repr(theirs[name])


def test_random_damage_is_read_or_refused(tmp_path: Path):
    path = mat(tmp_path / "a.mat", A={"list": cell([np.ones((1, 4)), "text"]), "n": 2.0})
    whole, rng = path.read_bytes(), random.Random(3)
    outcomes = set()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(126, len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            read_mat(path, "A")
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
