"""Order, buffers, shapes and errors of the runner, on a device that does its work late."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from threading import Thread

import numpy as np
import pytest
import torch

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.gpu import runner as module
from jde_ray.models.jde.gpu.building import open_runner as gpu_runner
from jde_ray.models.jde.gpu.devices import CudaDevice, HostDevice, Stream
from jde_ray.models.jde.gpu.padded import TorchConvolutions
from jde_ray.models.jde.gpu.runner import Runner
from jde_ray.models.jde.gpu.selection import Limits, RawMaps, Selection
from jde_ray.models.jde.network import JDE

LIMITS = Limits(0.5, 0.4, 20)


class LateDevice(HostDevice):
    """Does nothing before the host waits for it, and then the latest stream first.

    What was not told to wait reads old buffers, as it may on a GPU.
    """

    def __init__(self) -> None:
        self.queues: dict[Stream, list[Callable[[], None]]] = {stream: [] for stream in Stream}
        self.done = dict.fromkeys(Stream, 0)
        self.events: list[str] = []

    def copy(self, stream, target, source):
        self.events.append(f"{stream.value} copy")
        self.queues[stream].append(lambda: target.copy_(source))

    def replay(self, stream, work):
        self.events.append(f"{stream.value} work")
        self.queues[stream].append(work)

    def mark(self, stream):
        return stream, len(self.queues[stream])

    def wait(self, stream, mark):
        self.queues[stream].append(lambda: self._advance(*mark))

    def finish(self, mark):
        self.events.append("host waits")
        self._advance(*mark)

    def _advance(self, stream, end):
        while self.done[stream] < end:
            work = self.queues[stream][self.done[stream]]
            self.done[stream] += 1
            with torch.inference_mode():
                work()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = JDE(SMALL).eval()
    with torch.no_grad():
        for head in made.heads:  # untrained scores are all alike: spread them
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    return optimise(made, "fp32")


def open_runner(model, device=None, batches=(1, 2, 4), build=None):
    def network(pixels):
        return RawMaps.of(model.maps(model.normalise(pixels)))

    def select(height, width):
        return Selection(
            model.config, (height, width), LIMITS, TorchConvolutions(), torch.device("cpu")
        )

    return Runner(build or (lambda *_: network), select, device or HostDevice(), batches)


def frames(count, height=32, width=64, seed=0):
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    made.flags.writeable = False  # as Ray's memory is
    return made


def check_equal(found, wanted, **tolerance):
    """Compare detections; convolutions on a CPU sum in another order in another batch size."""
    tolerance = tolerance or {"rtol": 1e-4, "atol": 1e-4}
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert len(one.scores) > 0
        assert one.num_capped == other.num_capped
        for name in ("tlbr", "scores", "embeddings"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), **tolerance)


def alone(model, batch):
    """Each frame's detections when nothing else is in its batch."""
    limits = (LIMITS.score_threshold, LIMITS.nms_threshold, LIMITS.max_detections)
    return [model.detect(torch.tensor(frame[None]), *limits)[0] for frame in batch]


def test_late_work_mixes_no_batches_up(model):
    runner = open_runner(model, LateDevice())
    sent = [frames(2, seed=seed) for seed in range(5)]
    sent.insert(2, frames(1, 64, 32))  # another size between them
    pending = [runner.submit([batch]) for batch in sent]
    for batch, one in reversed(list(zip(sent, pending, strict=True))):
        check_equal(one.result(), alone(model, batch))
        check_equal(one.result(), one.result())


def test_only_the_third_batch_waits(model):
    device = LateDevice()
    runner = open_runner(model, device)
    steps = ["upload copy", "compute copy", "compute work", "compute copy", "download copy"]
    first, _ = (runner.submit([frames(2, seed=seed)]) for seed in range(2))
    assert device.events == steps * 2
    runner.submit([frames(2)])
    assert device.events == [*steps * 2, "host waits", *steps]
    first.result()
    assert device.events == [*steps * 2, "host waits", *steps]  # collected already


@pytest.mark.parametrize("place", [0, 3])
def test_a_frame_depends_neither_on_its_neighbours_nor_on_its_place(model, place):
    one, wanted = frames(1, seed=9), None
    for count, seed in ((1, 0), (2, 1), (4, 2)):  # each of the shapes
        others = frames(count, seed=seed).copy()
        at = min(place, count - 1)
        others[at] = one[0]
        found = open_runner(model, LateDevice()).detect(others)[at : at + 1]
        wanted = wanted or found
        check_equal(found, wanted)
        shuffled = open_runner(model, LateDevice()).detect(np.roll(others, 1, axis=0))
        moved = (at + 1) % count
        check_equal(shuffled[moved : moved + 1], found, rtol=0)


def test_frames_of_several_videos_fill_batches(model):
    shapes = []

    def build(batch, height, width):
        shapes.append((batch, height, width))
        return lambda pixels: RawMaps.of(model.maps(model.normalise(pixels)))

    runner = open_runner(model, LateDevice(), build=build)
    parts = [frames(3, seed=1), frames(0), frames(2, seed=2), frames(2, seed=3)]
    check_equal(runner.submit(parts).result(), alone(model, np.concatenate(parts)))
    assert shapes == [(4, 32, 64)]  # four frames, then three and one that is not asked for
    assert runner.submit([frames(0)]).result() == []


def test_several_threads_share_a_runner(model):
    runner, found = open_runner(model), {}

    def work(seed):
        found[seed] = [runner.detect(frames(2, seed=seed)) for _ in range(3)]

    threads = [Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, times in found.items():
        for one in times:
            check_equal(one, alone(model, frames(2, seed=seed)))


def test_old_sizes_are_forgotten_after_their_batches(model, monkeypatch):
    monkeypatch.setattr(module, "MOST_SIZES", 1)
    runner = open_runner(model, LateDevice())
    first = runner.submit([frames(1)])
    runner.submit([frames(1, 64, 32)])
    assert len(runner._sizes) == 1
    check_equal(first.result(), alone(model, frames(1)))


class Full:
    """A device's memory that holds only batches up to a size."""

    def __init__(self, model, most):
        self.model, self.most, self.asked = model, most, []

    def __call__(self, batch, height, width):
        self.asked.append(batch)
        if batch > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda pixels: RawMaps.of(self.model.maps(self.model.normalise(pixels)))


def test_without_room_for_a_batch_smaller_ones_are_used(model, caplog):
    full = Full(model, 2)
    runner = open_runner(model, LateDevice(), build=full)
    check_equal(runner.detect(frames(3)), alone(model, frames(3)))
    assert full.asked == [4, 4, 2, 1]  # the second time after all other memory was given back
    assert runner.largest == 2
    assert [record.message for record in caplog.records] == [
        "GPU memory: batches of 2 frames from now on"
    ]


def test_without_room_for_any_batch_the_error_is_one_line(model):
    runner = open_runner(model, build=Full(model, 0))
    with pytest.raises(MemoryError, match="no room for 1 frames of 64x32") as caught:
        runner.detect(frames(3))
    assert "\n" not in str(caught.value)


def test_wrong_batches_are_refused(model):
    for batches in ((), (4, 2), (1, 1), (0, 4), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="expected one to three, ascending"):
            open_runner(model, batches=batches)
    runner = open_runner(model)
    with pytest.raises(ValueError, match="expected one size"):
        runner.submit([frames(1), frames(1, 64, 32)])
    with pytest.raises(ValueError, match="expected uint8"):
        runner.submit([frames(1) / 255])
    with pytest.raises(ValueError, match="expected cuda"):
        CudaDevice(torch.device("cpu"))


@pytest.mark.parametrize("field", ["boxes", "scores"])
def test_a_number_that_is_not_finite_names_the_frame(model, field):
    def build(batch, height, width):
        def network(pixels):
            maps = model.maps(model.normalise(pixels))
            for one in maps:
                wrong = pixels[:, 0, 0, 0] == 255
                part = one.box if field == "boxes" else one.score
                part[wrong] = torch.nan
                if field == "boxes":
                    one.score[wrong] = 5.0
            return RawMaps.of(maps)

        return network

    sent = frames(6).copy()
    sent[:, 0, 0, 0] = [0, 0, 0, 0, 0, 255]
    with pytest.raises(FloatingPointError, match=f"{field} of image 5 are not finite"):
        open_runner(model, LateDevice(), build=build).detect(sent)


def test_what_had_no_room_is_let_go_before_memory_is_given_back(model):
    """An error that is being handled holds what its functions had allocated."""
    alive, held = weakref.WeakSet(), []

    class Buffers:
        pass

    class Device(LateDevice):
        def release(self):
            held.append(len(alive))

    def build(batch, height, width):
        buffers = Buffers()
        alive.add(buffers)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError):
        open_runner(model, Device(), build=build).detect(frames(1))
    assert held == [0, 0]


def test_parts_keep_their_own_errors(model):
    def build(batch, height, width):
        def network(pixels):
            maps = model.maps(model.normalise(pixels))
            for one in maps:
                one.score[pixels[:, 0, 0, 0] == 255] = torch.nan
            return RawMaps.of(maps)

        return network

    parts = [frames(3, seed=seed).copy() for seed in (1, 2, 3)]
    for part in parts:
        part[:, 0, 0, 0] = 0
    parts[1][2, 0, 0, 0] = 255
    pending = open_runner(model, LateDevice(), build=build).submit([*parts, frames(0)])
    first, second, third, nothing = pending.parts()
    check_equal(first, alone(model, parts[0]))
    assert str(second) == "the network's scores of image 2 are not finite"
    check_equal(third, alone(model, parts[2]))
    assert nothing == []


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [True, False])
def test_recorded_graphs_and_overlapped_copies_change_nothing(model, graphs):
    own = copy.deepcopy(model).cuda()
    runner = gpu_runner(own, LIMITS, (2, 4), graphs=graphs)
    sent = [frames(count, 96, 160, seed) for seed, count in enumerate((4, 2, 3, 4, 1, 4))]
    pending = [runner.submit([batch]) for batch in sent]
    for batch, one in zip(sent, pending, strict=True):
        found = one.result()
        limits = (LIMITS.score_threshold, LIMITS.nms_threshold, LIMITS.max_detections)
        wanted = own.detect(torch.tensor(batch), *limits)
        check_equal(found, wanted, rtol=1e-3, atol=1e-2)


@pytest.mark.gpu
def test_the_published_network_fits_16_gb_at_batch_16():
    for kernels in (None, False):
        made = optimise(JDE(CONFIGURATIONS["darknet53-1088x608"]).eval().cuda(), "bf16")
        torch.cuda.reset_peak_memory_stats()
        gpu_runner(made, Limits(0.99), (1, 4, 16), kernels=kernels).detect(frames(16, 608, 1088))
        assert torch.cuda.max_memory_allocated() < 16e9
