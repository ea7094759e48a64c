"""Data-parallel training in several processes with Ray Train, fed by Ray Data.

If a trainer dies, its group ends; Ray restarts the group, which continues from the last checkpoint
in `out`, written after every epoch and every two minutes. Checkpoints are in our own store and the
same for one process and for many.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
import torch
from ray.data import ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from jde_ray.pipelines.cluster import connected
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.storage.ray_storage import ray_storage
from jde_ray.pipelines.training.data.batches import TrainingSet
from jde_ray.pipelines.training.loop import NonFiniteLossError
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.ray_batches import BatchDataset, read_batches
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig
from jde_ray.pipelines.training.trainer import train_share

SECONDS_ALONE = 3600  # longest time that other trainers wait while trainer 0 validates


class DistributedProcessGroup(ProcessGroup):
    """The processes of a Ray Train group, joined by gloo or NCCL."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank, self.count = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module in torch's `DistributedDataParallel`."""
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process; uses an all-reduce."""
        raised = torch.tensor(flags, dtype=torch.float32, device=self.device)
        torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def first(self, value: float) -> float:
        """The value of process 0, sent by a broadcast."""
        first = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(first, src=0)
        return float(first)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def report(self, figures: dict[str, float]) -> None:
        """Report to Ray Train, whose dashboard, callbacks and result have the last figures."""
        ray.train.report(figures)


@ray.remote(num_cpus=0)
class _Lines:
    """Holds the lines of trainer 0 for the driver, and the reason if the training stopped."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reason: tuple[str, str] | None = None

    def add(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        taken, self.lines = self.lines, []
        return taken

    def stop(self, kind: str, reason: str) -> None:
        self.reason = (kind, reason)

    def why(self) -> tuple[str, str] | None:
        return self.reason


def train_on_ray(
    run: TrainingRun,
    images: TrainingSet,
    *,
    show: Callable[[str], None] = lambda line: None,
) -> None:
    """Train in several processes that share each step's batch, as `run.trainers` says.

    The recipe's batch must be a multiple of their number. Tasks of Ray augment their images, at
    least one per trainer; the device `auto` takes one GPU per trainer if the cluster has enough.

    Args:
        run: Settings of the training; every node must see its root and `out`.
        images: Images of all sources; Ray's object store holds one copy per node.
        show: Called with each line of the live table.

    Raises:
        NonFiniteLossError: If the loss is no longer finite.
        ValueError: If the checkpoint or the initial weights do not fit.
        RunError: If trainers died more often than `max_failures`, or no Ray is at the address.
    """
    trainers = run.trainers
    num_trainers, device = trainers.num_trainers, trainers.device
    with connected(trainers.address):
        owned = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(owned.get("GPU", 0))
        # a cluster may get more machines when it is asked for more than it has
        available = owned.get("CPU", 0.0) if trainers.address == "local" else math.inf
        cpus = cpu_shares(available, trainers)
        use_gpu = device != "cpu" and gpus >= num_trainers
        if device == "cuda" and not use_gpu:
            text = f"device: got cuda for {num_trainers} trainers, but this Ray has {gpus} GPUs"
            raise ValueError(text)
        run.begin()
        lines = _Lines.remote()  # type: ignore[attr-defined]
        trainer = TorchTrainer(
            _train_one,
            train_loop_config={"run": run, "lines": lines},
            scaling_config=ScalingConfig(
                num_workers=num_trainers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": cpus[0], **({"GPU": 1} if use_gpu else {})},
            ),
            torch_config=TorchConfig(
                backend="nccl" if use_gpu else "gloo", timeout_s=SECONDS_ALONE
            ),
            datasets=_datasets(run, ray.put(images), cpus[1]),
            # Ray Train replaces the datasets' own options, and would mix up their batches
            dataset_config=DataConfig(
                datasets_to_split=[], execution_options=ExecutionOptions(preserve_order=True)
            ),
            run_config=RunConfig(
                name=f"ray-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}",
                **ray_storage(run.out),
                failure_config=FailureConfig(max_failures=trainers.max_failures),
            ),
        )
        _fit(trainer, lines, show)
        reason = ray.get(lines.why.remote())
    if reason is not None:
        kind, text = reason
        raise NonFiniteLossError(text) if kind == "not finite" else ValueError(text)


def cpu_shares(available: float, trainers: TrainerConfig) -> tuple[float, float]:
    """CPUs that each trainer and each of its tasks that augment images ask Ray for.

    A trainer asks for its threads, a task for one. Where there are fewer CPUs they all ask for less
    and share: if the trainers took all of them, they would wait for their images without end.

    Args:
        available: CPUs of this Ray; infinity if it may grow.
        trainers: Number of trainers, their threads and tasks.
    """
    tasks = max(1, trainers.workers)
    share = min(1.0, available / (trainers.num_trainers * (trainers.threads + tasks)))

    def asked(cpus: float) -> float:  # Ray takes whole numbers above 1
        return float(int(cpus)) if cpus >= 1 else int(cpus * 1000) / 1000

    return asked(share * trainers.threads), asked(share)


def _datasets(run: TrainingRun, images: Any, cpus: float) -> dict[str, Any]:
    """Functions that make one dataset per trainer; Ray calls them at each start of the group."""
    num_steps, trainers = run.schedule.num_steps, run.trainers
    return {
        _shard(rank): partial(
            BatchDataset.build,
            BatchDataset(
                images=images,
                out=run.out,
                num_steps=num_steps,
                rank=rank,
                num_ranks=trainers.num_trainers,
                workers=max(1, trainers.workers),
                cpus=cpus,
            ),
        )
        for rank in range(trainers.num_trainers)
    }


def _shard(rank: int) -> str:
    return f"trainer_{rank}"


def _fit(trainer: TorchTrainer, lines: Any, show: Callable[[str], None]) -> None:
    """Run the training to its end and show the lines of trainer 0.

    Raises:
        RunError: If Ray gave up.
    """
    over = threading.Event()

    def relay() -> None:
        while True:
            is_over = over.wait(0.5)
            for line in ray.get(lines.take.remote()):
                show(line)
            if is_over:
                return

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"training: Ray gave up: {reason}", ExitCode.INTERNAL) from error
    finally:
        over.set()
        thread.join(timeout=10)


def _train_one(config: dict[str, Any]) -> None:
    """Main function of each trainer."""
    run: TrainingRun = config["run"]
    ranks = DistributedProcessGroup()
    shard = ray.train.get_dataset_shard(_shard(ranks.rank))

    def show(line: str) -> None:
        ray.get(config["lines"].add.remote(line))

    def stop(kind: str, error: Exception) -> None:
        if ranks.rank == 0:  # all trainers have this error, so Ray must not restart them
            ray.get(config["lines"].stop.remote(kind, str(error)))

    try:
        train_share(run, lambda first: read_batches(shard, first), ranks, show)
    except NonFiniteLossError as error:
        stop("not finite", error)
    except ray.exceptions.RayTaskError:  # one trainer's data failed, so the group must end
        raise
    except ValueError as error:
        stop("refused", error)
