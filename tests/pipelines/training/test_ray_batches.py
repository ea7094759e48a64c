import numpy as np
import pyarrow as pa
import pytest
import torch

from jde_ray.pipelines.training.data.batches import TrainingSet, collate
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.ray_batches import (
    BatchDataset,
    from_table,
    make_batches,
    read_batches,
    to_table,
)
from jde_ray.pipelines.training.settings import Augmentation


def stream(people=1):
    rng = np.random.default_rng(0)
    images = [
        LabelledImage(
            rng.integers(0, 255, (60, 80, 3), dtype=np.uint8),
            np.tile(np.array([[20, 5, 50, 58]], np.float32), (people, 1)),
            np.full(people, number),
            np.zeros(people, bool),
            0,
            appearance=np.full((people, 4), 0.5, np.float32),
            origin=f"{number}.jpg",
        )
        for number in range(6)
    ]
    return TrainingSet(
        images, [1.0], set(), size=(96, 64), batch=4, augmentation=Augmentation(), sampling="epoch"
    )


def same(a, b):
    assert a.origins == b.origins
    assert torch.equal(a.images, b.images)
    for name, value in vars(a.labels).items():
        assert torch.equal(value, vars(b.labels)[name])
        assert value.dtype == vars(b.labels)[name].dtype


def test_batches_survive_the_way_through_arrow():
    for people in (0, 3):
        batch = collate(stream(people).batch_at(7))
        step, back = from_table(to_table(7, batch))
        assert step == 7
        same(back, batch)


def test_a_span_gives_the_batches_of_its_steps_for_one_trainer():
    made = make_batches(stream(), 1, 2, pa.table({"first": [3], "count": [2]}))
    found = [from_table(table) for table in made]
    assert [step for step, _ in found] == [3, 4]
    for step, batch in found:
        same(batch, collate(stream().batch_at(step, 1, 2)))
        assert len(batch.images) == 2


def feed(tmp_path, **changes):
    settings = {
        "images": None,
        "out": str(tmp_path),
        "num_steps": 100,
        "rank": 0,
        "num_ranks": 1,
        "workers": 1,
    }
    return BatchDataset(**{**settings, **changes})


class Shard:
    """Stands in for a dataset: one table a step."""

    def __init__(self, steps):
        self.steps = steps

    def iter_batches(self, **options):
        assert options["batch_format"] == "pyarrow"
        for step in self.steps:
            yield to_table(step, collate(stream().batch_at(step)))


def test_steps_before_the_checkpoint_are_passed_over_and_a_time_budget_repeats():
    batches = read_batches(Shard(range(3, 6)), 4)
    assert [next(batches)[0] for _ in range(5)] == [4, 5, 6, 7, 8]


def test_batches_out_of_order_are_refused():
    batches = read_batches(Shard([0, 1, 3, 2]), 0)
    assert [next(batches)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="batches: got step 3, expected 2"):
        next(batches)


def test_no_batches_end_the_training():
    assert list(read_batches(Shard([]), 0)) == []


def test_a_restarted_feed_begins_after_the_checkpoint(tmp_path):
    (tmp_path / "latest.json").write_text('{"step": 40, "spent": 1.0}')
    spans = feed(tmp_path, images=stream()).spans()
    assert spans == [{"first": 40, "count": 32}, {"first": 72, "count": 28}]
    assert feed(tmp_path, num_steps=40).spans() == []
    long = feed(tmp_path / "new", num_steps=10**6).spans()
    assert long[0]["first"] == 0
    assert sum(s["count"] for s in long) == 10**6
    assert len(long) <= 1024
