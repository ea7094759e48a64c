"""`jde doctor`: is this machine ready? One line per check. Also `python -m jobs.doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.config import VERSION, DetectionConfig, ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError


class Check(NamedTuple):
    """One line of the report; with `is_good` None it is a note, which never fails the check."""

    name: str
    is_good: bool | None
    text: str


Out = Annotated[str, typer.Option(help="Folder for results, checked for write access.")]
Store = Annotated[
    str | None, typer.Option(metavar="URI", help="Store to test: s3://bucket/prefix, or a folder.")
]
S3Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="Endpoint of an S3 store other than AWS.")
]


def doctor(out: Out = "runs", store: Store = None, s3_endpoint: S3Endpoint = None) -> int:
    """Check versions, devices, weights and their licence, write access, and a store.

    Exit codes: 0 all checks passed; 1 a check failed; 2 --store is not the address of a store.
    """
    if store is not None:
        _check_address(store, s3_endpoint)
    checks: list[Callable[[], Iterator[Check]]] = [
        *(_versions, _ray, _torch, _video, _weights, lambda: _folder(Path(out))),
    ]
    if store is not None:
        checks.append(lambda: _store(store, s3_endpoint))
    results = [result for check in checks for result in _guarded(check)]
    for name, is_good, text in results:
        mark = {True: "ok  ", False: "FAIL", None: "note"}[is_good]
        print(f"{mark} {name}: {' '.join(text.split())}", flush=True)
    return ExitCode.INTERNAL if any(r.is_good is False for r in results) else ExitCode.DONE


def _check_address(store: str, s3_endpoint: str | None) -> None:
    from jde_ray.pipelines.storage.stores import open_store

    try:
        ResourceConfig(s3_endpoint=s3_endpoint)
        open_store(store)
    except ValueError as error:
        raise RunError(str(error).replace("out: ", "store: ", 1), ExitCode.REFUSED) from error


def _guarded(check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001  a library that cannot even be imported is a finding
        yield Check("check", False, f"{type(error).__name__}: {error}")


def _versions() -> Iterator[Check]:
    is_supported = sys.version_info >= (3, 11)
    yield Check("python", is_supported, f"{platform.python_version()} on {platform.platform()}")
    yield Check("jde-ray", True, VERSION)
    names = ("numpy", "scipy", "pyarrow", "opencv-python-headless", "lap", "boto3")
    for name in names:
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, "not installed; run make, or pip install -e .")


def _ray() -> Iterator[Check]:
    import ray

    yield Check("ray", ray.__version__.startswith("2.60."), f"{ray.__version__} (2.60 is tested)")
    shared = Path("/dev/shm")  # noqa: S108  where Ray keeps its objects on Linux
    if shared.is_dir():
        free = shutil.disk_usage(shared).free >> 20
        yield Check("shared memory", None if free < 512 else True, f"{free} MiB free in {shared}")


def _torch() -> Iterator[Check]:
    import torch

    yield Check("torch", True, torch.__version__)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cpu", True, f"{cores} cores")
    if not torch.cuda.is_available():
        yield Check("gpu", None, "none; the network runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Check("gpu", True, f"{properties.name}, {properties.total_memory >> 30} GiB")


def _video() -> Iterator[Check]:
    import av

    libraries = ", ".join(
        f"{name} {'.'.join(map(str, numbers))}"
        for name, numbers in av.library_versions.items()
        if name in ("libavformat", "libavcodec", "libswscale")
    )
    yield Check("av", True, f"{av.__version__} ({libraries})")
    missing = [name for name in ("h264", "hevc", "vp9", "mpeg4") if name not in av.codecs_available]
    yield Check(
        "decoders", not missing, f"missing {missing}" if missing else "h264, hevc, vp9, mpeg4"
    )


def _weights() -> Iterator[Check]:
    from jde_ray.models.cards import JOINT, REID
    from jde_ray.models.jde.weights import load, metadata
    from jde_ray.models.reid import weights as reid

    default = DetectionConfig().weights
    if default not in JOINT.names():
        text = f"the default model {default!r} is not in {JOINT.folder}"
        yield Check("weights", False, text)
    for name, path in JOINT.files().items():
        yield from _network(f"weights {name}", path, load, metadata)
    for name, path in REID.files().items():
        yield from _network(f"reid {name}", path, reid.load, reid.metadata)


def _network(
    what: str,
    path: Path,
    load: Callable[[Path], Any],
    metadata: Callable[[Path], dict[str, str]],
) -> Iterator[Check]:
    from jde_ray.models.jde.weights import sha256

    try:
        size = "x".join(map(str, load(path).config.size))
        licence = metadata(path).get("licence", "not stated in the file")
        yield Check(what, True, f"{size}, sha256 {sha256(path)[:12]}")
        yield Check(what, None, f"LICENCE of these weights: {licence}")
    except ValueError as error:
        yield Check(what, False, str(error))


def _folder(out: Path) -> Iterator[Check]:
    nearest = next(path for path in (out, *out.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free >> 30
            yield Check("out", True, f"{out} can be written ({free} GiB free)")
    except OSError as error:
        yield Check("out", False, f"{out} cannot be written: {error.strerror}")


def _store(uri: str, endpoint: str | None) -> Iterator[Check]:
    """Check what the pipeline relies on: an object is created once, listed, and read back whole."""
    import uuid
    from concurrent.futures import ThreadPoolExecutor

    from jde_ray.pipelines.storage.s3_client import configure
    from jde_ray.pipelines.storage.stores import open_store

    try:
        configure(endpoint)
        store = open_store(uri)
        folder = f".jde-doctor-{uuid.uuid4().hex[:12]}/"
        key = f"{folder}probe"
        created = store.put_if_absent(key, b"first"), store.put_if_absent(key, b"second")
        content = store.get(key)
        listed = list(store.list(folder))
        with ThreadPoolExecutor(4) as pool:
            rounds = [
                sum(pool.map(lambda _, k=f"{folder}{i}": store.put_if_absent(k, b"x"), range(4)))
                for i in range(5)
            ]
        for name in store.list(folder):
            store.delete(name)
        left = list(store.list(folder))
    except (OSError, ValueError) as error:
        yield Check("store", False, f"{uri}: {error}")
        return
    yield Check(
        "store", listed == [key] and not left, f"{store.uri} is written, listed and cleared"
    )
    is_once = created == (True, False) and content == b"first"
    text = "an object is created once" if is_once else "an object that exists was replaced"
    yield Check("store create-only", is_once, f"{text} (If-None-Match: *, or a link)")
    most = max(rounds)
    if most > 1:
        text = f"{most} of 4 simultaneous creators were told that they won; see docs/storage.md"
        yield Check("store races", None, text)
    else:
        yield Check("store races", True, "of 4 simultaneous creators one wins")


if __name__ == "__main__":
    main(doctor, "doctor")
