from __future__ import annotations

import signal

import pytest

from pipelines.cluster import Interrupted, connected, interruptible, size_pools
from pipelines.config import ResourceConfig
from pipelines.errors import ExitCode, RunError


@pytest.mark.parametrize("cpus", [0.5, 1, 2, 4, 64])
@pytest.mark.parametrize("detectors", [None, 1, 3])
def test_on_any_machine_both_stages_can_start(cpus: float, detectors: int | None) -> None:
    resources = ResourceConfig(num_detectors=detectors, torch_threads=4)
    pools = size_pools(resources, {"CPU": cpus})
    assert pools.num_detectors == detectors or detectors is None
    assert pools.num_detectors * pools.detector_cpus + pools.decoder_cpus <= cpus + 0.11
    assert pools.detector_gpus == 0
    assert 1 <= pools.num_shards <= 16


@pytest.mark.parametrize(
    ("cpus", "threads", "expected"), [(1, 1, 1), (2, 1, 2), (4, 1, 3), (16, 1, 14), (16, 4, 3)]
)
def test_cpus_are_filled_with_detectors_and_leave_room_to_decode(
    cpus: int, threads: int, expected: int
) -> None:
    assert (
        size_pools(ResourceConfig(torch_threads=threads), {"CPU": cpus}).num_detectors == expected
    )


@pytest.mark.parametrize(("share", "expected"), [(1.0, 4), (0.25, 16), (0.5, 8), (2.0, 2)])
def test_gpus_are_filled_with_detectors(share: float, expected: int) -> None:
    pools = size_pools(ResourceConfig(gpus_per_detector=share), {"CPU": 32, "GPU": 4})
    assert (pools.num_detectors, pools.detector_gpus) == (expected, share)


def test_what_is_asked_for_is_taken() -> None:
    asked = ResourceConfig(device="cpu", num_detectors=3, num_associators=5, num_decoders=2)
    pools = size_pools(asked, {"CPU": 8, "GPU": 4})
    assert (pools.num_detectors, pools.num_shards, pools.num_decoders) == (3, 5, 2)
    assert pools.detector_gpus == 0


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(RunError, match="device: got cuda") as refused:
        size_pools(ResourceConfig(device="cuda"), {"CPU": 8})
    assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_interrupt_and_are_given_back(number: signal.Signals, code: ExitCode) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


@pytest.mark.ray
def test_a_connected_process_keeps_its_ray(ray_cluster: str) -> None:
    import ray

    with connected("local"):
        assert ray.get_runtime_context().gcs_address == ray_cluster
    assert ray.is_initialized()
