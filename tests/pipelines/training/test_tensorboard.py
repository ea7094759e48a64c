import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.tensorboard import EventFile


def events(store):
    """All events of all files, in the order of the files' names."""
    found = []
    for key in sorted(store.list("tensorboard/")):
        content = store.get(key)
        while content:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(store):
    values = [(e.step, value) for e in events(store) for value in e.summary.value]
    return {(value.tag, step): value.simple_value for step, value in values}


def test_numbers_of_a_row_are_curves(tmp_path):
    store = open_store(str(tmp_path))
    file = EventFile(store, 0)
    file.flush()
    assert list(store.list("tensorboard/")) == []
    file.add(20, {"step": 20, "total": 1.5, "loss_box_32": 0.25, "weight_box_32": 2, "name": "x"})
    file.flush()
    file.add(40, {"ap": 0.5, "mota": float("nan")}, "validation/STREET/")
    file.flush()
    assert len(list(store.list("tensorboard/"))) == 1
    assert scalars(store) == pytest.approx(
        {
            ("total", 20): 1.5,
            ("loss/box_32", 20): 0.25,
            ("weight/box_32", 20): 2,
            ("validation/STREET/ap", 40): 0.5,
        }
    )


def test_steps_that_are_repeated_void_the_former_ones(tmp_path):
    store = open_store(str(tmp_path))
    for last_step, step in ((0, 20), (10, 12)):
        file = EventFile(store, last_step)
        file.add(step, {"total": 1.0})
        file.flush()
    assert len(list(store.list("tensorboard/"))) == 2
    begun = [event.step for event in events(store) if event.HasField("session_log")]
    assert sorted(begun) == [1, 11]
