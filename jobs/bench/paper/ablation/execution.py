"""Does the runs of an ablation one after the other in this process, or as tasks of Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jde_ray.jobs.bench.paper.ablation.row_run import RowRun, do, do_as_task
from jde_ray.pipelines.training.data.image_set import TrainingImages

Show = Callable[[str], None]
Scores = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where the runs take place.

    Attributes:
        read: Reads the images, once there is something to do.
        show: Called with lines of progress.
        at_once: Runs at the same time; one without an address runs in this process.
        address: Ray to run on; None starts one, if several runs take place at once.
        cpus: CPUs of a run.
        gpus: GPUs of a run.
    """

    read: Callable[[], TrainingImages]
    show: Show
    at_once: int = 1
    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0

    def __call__(self, runs: Sequence[RowRun]) -> list[Scores]:
        """Scores of the runs in their order; those that are done already are read.

        Raises:
            ValueError: If a run is refused, or its folder holds another one.
            RunError: If there is no Ray at the address.
        """
        found = [run.done() for run in runs]
        waiting = [index for index, scores in enumerate(found) if scores is None]
        if not waiting:
            return [scores for scores in found if scores is not None]
        images = self.read()
        if self.at_once == 1 and self.address is None:
            for index in waiting:
                self.show(f"{runs[index].name}: begins")
                found[index] = self._end(runs[index], do(runs[index], images, self.show))
        else:
            self._on_ray(runs, waiting, found, images)
        return [scores for scores in found if scores is not None]

    def _end(self, run: RowRun, scores: Scores) -> Scores:
        self.show(f"{run.name}: {summary(scores)}")
        return scores

    def _on_ray(
        self,
        runs: Sequence[RowRun],
        waiting: list[int],
        found: list[Scores | None],
        images: TrainingImages,
    ) -> None:
        import ray

        from jde_ray.pipelines.cluster import connected

        with connected(self.address or "local"):
            shared = ray.put(images)  # one copy per node
            task: Any = ray.remote(_attempt).options(num_cpus=self.cpus, num_gpus=self.gpus)
            left = list(waiting)
            running: dict[Any, int] = {}
            while left or running:
                while left and len(running) < self.at_once:
                    index = left.pop(0)
                    self.show(f"{runs[index].name}: begins; {runs[index].out}/training.log")
                    running[task.remote(runs[index], shared)] = index
                (done, *_), _ = ray.wait(list(running))
                index, result = running.pop(done), ray.get(done)
                if isinstance(result, ValueError):
                    raise result
                found[index] = self._end(runs[index], result)


def _attempt(run: RowRun, images: TrainingImages) -> Scores | ValueError:
    """Scores of a run, or its ValueError as a value, which Ray would wrap in a traceback."""
    try:
        return do_as_task(run, images)
    except (ValueError, OSError) as error:
        return ValueError(str(error))


def summary(scores: Scores) -> str:
    """One line: `AP 41.0  TPR 60.2  MOTA 20.1  IDs 40, 312 s`, or why the run diverged."""
    if "diverged" in scores:
        return f"diverged ({scores['diverged']})"
    named = {"AP": "ap", "TPR": "tpr", "MOTA": "mota", "IDF1": "idf1", "IDs": "ids"}
    parts = (
        f"{title} {value:.1f}" if isinstance(value, float) else f"{title} {value}"
        for title, key in named.items()
        if (value := scores.get(key)) is not None
    )
    return f"{'  '.join(parts)}, {scores['seconds']:.0f} s"
