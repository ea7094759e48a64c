"""One process of a training: it goes on from its checkpoint, and its workers outlive a signal."""

import os
import signal
import time
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from small_training import run

from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training import trainer
from jde_ray.pipelines.training.checkpoint import step_done
from jde_ray.pipelines.training.data.batches import Batch
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.trainer import train_here, train_share


def batches(began, last=None):
    """Batches of one person, from the step that is asked for; a trainer dies before step `last`."""
    labels = Labels(
        image=torch.tensor([0]),
        tlbr=torch.tensor([[20.0, 10, 50, 60]]),
        identity=torch.tensor([0]),
        ignore=torch.tensor([False]),
        appearance=torch.zeros(1, 128),
        learns_detection=torch.ones(2, dtype=torch.bool),
    )

    def give(first):
        began.append(first)
        for step in count(first):
            if step == last:
                raise RuntimeError("a trainer dies")
            yield step, Batch(torch.full((2, 32, 64, 3), 90, dtype=torch.uint8), labels)

    return give


def test_without_resume_a_group_that_is_started_again_goes_on_from_its_own_checkpoint(tmp_path):
    """As Ray Train calls it: once to begin, then the same run again after a trainer's death."""
    began = []
    fresh = run(tmp_path, resume=False)
    (tmp_path / "latest.json").write_text('{"step": 77}')
    (tmp_path / "latest.pt").write_bytes(b"of an older training")
    fresh.begin()
    with pytest.raises(RuntimeError, match="a trainer dies"):
        train_share(fresh, batches(began, last=1), ProcessGroup())
    train_share(fresh, batches(began), ProcessGroup())
    assert began == [0, 1]
    assert step_done(open_store(str(tmp_path))) == 2


def test_a_worker_outlives_its_trainers_sigterm_and_ends_as_if_it_were_done(monkeypatch):
    """What it has made is read only from a living one; one that a signal kills raises an error."""
    monkeypatch.setattr(trainer, "OUTLIVES_SECONDS", 0.2)
    since = time.monotonic()
    child = os.fork()
    if not child:
        trainer._leave_signals_to_the_trainer(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        time.sleep(30)
        os._exit(9)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert time.monotonic() - since >= 0.2


def test_a_lost_worker_is_told_in_one_line(tmp_path, monkeypatch):
    class Loader:
        def __init__(self, *_, **__):
            pass

        def __iter__(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(torch.utils.data, "DataLoader", Loader)
    images = SimpleNamespace(from_step=lambda step: ())
    with pytest.raises(RunError, match=r"augments died \(DataLoader worker \(pid 7\) is killed"):
        train_here(run(tmp_path), images, device="cpu")
