from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.tracking.stages.reorder_buffer import ReorderBuffer


def make(folder: Path, window: int = 3) -> ReorderBuffer[str]:
    return ReorderBuffer(folder / "spool", str.encode, bytes.decode, window=window)


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(12)), repeats=st.lists(st.integers(0, 11), max_size=8))
def test_any_order_comes_out_in_order_with_a_bounded_window(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], repeats: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("reorder")
    buffer, out, offered = make(folder), [], set()
    for index in order + repeats:
        assert buffer.offer(index, f"p{index}") is (index not in offered)
        offered.add(index)
        assert buffer.num_in_memory <= 3
        out += list(buffer.drain())
    assert out == [f"p{i}" for i in range(12)]
    assert buffer.num_spooled == 0
    assert not list(folder.rglob("*.chunk"))


def test_what_is_outside_the_window_waits_on_disk(tmp_path: Path) -> None:
    buffer = make(tmp_path)
    for index in range(1, 8):
        buffer.offer(index, str(index))
    assert (buffer.num_in_memory, buffer.num_spooled) == (2, 5)
    assert list(buffer.drain()) == []
    buffer.close()
    assert not list(tmp_path.rglob("*.chunk"))


def test_a_consumer_may_stop_in_the_middle(tmp_path: Path) -> None:
    buffer = make(tmp_path)
    for index in range(3):
        buffer.offer(index, str(index))
    assert next(buffer.drain()) == "0"
    assert buffer.next_index == 1
    assert list(buffer.drain()) == ["1", "2"]


def test_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="window: got 0"):
        make(tmp_path, window=0)
    with pytest.raises(ValueError, match="index: got -1"):
        make(tmp_path).offer(-1, "")
