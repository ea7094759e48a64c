"""Batches made by Ray Data: a dataset per trainer, with one batch per row.

Every trainer reads its own dataset, so that its batches do not depend on the speed of the others,
and an interrupted training continues with the batches it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import DataContext, DataIterator, Dataset, TaskPoolStrategy

from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import step_done
from jde_ray.pipelines.training.data.batches import Batch, TrainingSet, collate

SPAN_STEPS = 32  # batches made by one task, which are repeated if the task dies
MOST_SPANS = 1024  # tasks of a dataset; for more steps, each task makes more batches


@dataclass(frozen=True, kw_only=True)
class BatchDataset:
    """The batches of one trainer as a Ray dataset, rebuilt after every restart.

    Attributes:
        images: Object reference of the `TrainingSet`; its pixels are shared by all tasks of a node.
        out: Folder or prefix whose checkpoint holds the number of steps done.
        num_steps: Number of steps of the training; None if a time budget ends it.
        rank: Number of the trainer, which chooses its part of every step's batch.
        num_ranks: Number of trainers that share a step's batch.
        workers: Tasks that make batches at the same time.
        cpus: CPUs that each of them asks Ray for.
    """

    images: Any
    out: str
    num_steps: int | None
    rank: int
    num_ranks: int
    workers: int
    cpus: float = 1.0

    def spans(self) -> list[dict[str, int]]:
        """First step and number of steps of each task, from the checkpoint on."""
        first = step_done(open_store(self.out))
        left = MOST_SPANS * SPAN_STEPS if self.num_steps is None else self.num_steps - first
        length = max(SPAN_STEPS, -(-left // MOST_SPANS))
        return [
            {"first": first + start, "count": min(length, left - start)}
            for start in range(0, left, length)
        ]

    def build(self) -> Dataset:
        """Dataset of the remaining batches as rows of `to_table`; runs nothing until it is read."""
        spans = self.spans() or [{"first": 0, "count": 0}]  # Ray cannot make an empty dataset
        context = DataContext.get_current().copy()
        context.target_max_block_size = 1  # block = row = batch
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        with DataContext.current(context):
            rows = ray.data.from_items(spans, override_num_blocks=len(spans))
            return rows.map_batches(
                partial(make_batches, self.images, self.rank, self.num_ranks),
                batch_size=1,
                batch_format="pyarrow",
                compute=TaskPoolStrategy(self.workers),
                num_cpus=self.cpus,
            )


def make_batches(images: Any, rank: int, num_ranks: int, spans: pa.Table) -> Iterator[pa.Table]:
    """The batches of some spans, one table per batch."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    stream: TrainingSet = ray.get(images) if isinstance(images, ray.ObjectRef) else images
    for span in spans.to_pylist():
        for step in range(span["first"], span["first"] + span["count"]):
            yield to_table(step, collate(stream.batch_at(step, rank, num_ranks)))


def to_table(step: int, batch: Batch) -> pa.Table:
    """A batch as one row: step, pixels and labels by name, all as bytes, and its source files."""
    arrays = {"images": batch.images, **vars(batch.labels)}
    columns: dict[str, Any] = {"step": [step], "origins": [list(batch.origins)]}
    for name, tensor in arrays.items():
        values = tensor.numpy()
        columns[name] = pa.array([values.tobytes()], pa.large_binary())
        columns[f"{name}_shape"] = [list(values.shape)]
        columns[f"{name}_type"] = [values.dtype.str]
    return pa.table(columns)


def from_table(table: pa.Table) -> tuple[int, Batch]:
    """Inverse of `to_table`."""
    (row,) = table.to_pylist()

    def read(name: str) -> torch.Tensor:
        values = np.frombuffer(row[name], row[f"{name}_type"])
        return torch.from_numpy(values.reshape(row[f"{name}_shape"]).copy())

    labels = Labels(**{f.name: read(f.name) for f in fields(Labels)})
    return row["step"], Batch(read("images"), labels, tuple(row["origins"]))


def read_batches(shard: DataIterator, first_step: int) -> Iterator[tuple[int, Batch]]:
    """Steps and batches of a trainer's dataset; with a time budget it is repeated at its end.

    Steps before `first_step` are skipped.

    Raises:
        RuntimeError: If they are not in order: this trainer would end before the others, which
            would wait for it.
    """
    passed, wanted = 0, None
    while True:
        count = 0
        options: dict[str, Any] = {"batch_size": None}  # one block, which is one row
        for table in shard.iter_batches(batch_format="pyarrow", prefetch_batches=2, **options):
            step, batch = from_table(table)
            count += 1
            if wanted is not None and step + passed != wanted:
                raise RuntimeError(f"batches: got step {step + passed}, expected {wanted}")
            wanted = step + passed + 1
            if step + passed >= first_step:
                yield step + passed, batch
        if not count:
            return
        passed += count
