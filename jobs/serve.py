"""`jde serve`: people tracked in live streams, HTTP and WebSocket. Also `python -m jobs.serve`.

Turns the command line into the arguments of `pipelines.online.deployments.build`, which a file for
`serve deploy` holds too (jobs/serve.yaml), and keeps the service up until it is told to stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import _options as options
from jobs._options import parse_size
from jobs._run import main
from pipelines.errors import ExitCode, RunError

Host = Annotated[str, typer.Option(help="Address to listen on; others than 127.0.0.1 need tokens.")]
Port = Annotated[int, typer.Option(help="Port to listen on.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", show_default=False, help="Accepted tokens, one a line."),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Let everybody in who can reach the address.")
]
NumSessions = Annotated[
    int | None,
    typer.Option(show_default=False, help="Session replicas that streams are spread over."),
]
NumIngresses = Annotated[
    int | None, typer.Option(show_default=False, help="Replicas that receive and decode.")
]
Snapshots = Annotated[
    str | None,
    typer.Option(
        metavar="actor|none|URI",
        show_default=False,
        help="Where streams are kept beside their replica, to survive it. Default: this machine's "
        "memory; with --address, actor.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        show_default=False,
        help="Settings as in jobs/serve.yaml under args; flags win over it.",
    ),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    config: ConfigFile = None,
    weights: options.Weights = None,
    size: options.Size = None,
    rect: options.Rect = None,
    conf: options.Conf = None,
    nms: options.Nms = None,
    max_detections: options.MaxDetections = None,
    precision: options.Precision = None,
    track_buffer: options.TrackBuffer = None,
    min_box_area: options.MinBoxArea = None,
    device: options.Device = None,
    torch_threads: options.TorchThreads = None,
    num_detectors: options.NumDetectors = None,
    num_sessions: NumSessions = None,
    num_ingresses: NumIngresses = None,
    snapshots: Snapshots = None,
    address: Annotated[str, typer.Option(help="Ray to run on: local, auto, HOST:PORT.")] = "local",
) -> None:
    """Track people in live streams; the page at the printed address lets you try it.

    Exit codes: 0 stopped; 1 internal; 2 refused before anything was started; 130, 143 interrupted.
    """
    flags: dict[str, Any] = {
        "weights": weights,
        "conf": conf,
        "track.detection.rect": rect,
        "track.detection.nms_threshold": nms,
        "track.detection.max_detections": max_detections,
        "track.detection.precision": precision,
        "track.tracking.track_buffer": track_buffer,
        "track.min_box_area": min_box_area,
        "device": device,
        "torch_threads": torch_threads,
        "num_detectors": _number("num-detectors", num_detectors),
        "num_sessions": num_sessions,
        "num_ingresses": num_ingresses,
        "snapshots": snapshots,
        "token_file": None if token_file is None else str(token_file.resolve()),
        "insecure": insecure or None,
    }
    args = {} if config is None else read_args(config)
    try:
        flags["size"] = None if size is None else parse_size(size)
    except ValueError as error:
        raise RunError(f"size: {error}", ExitCode.REFUSED) from error
    for place, value in flags.items():
        if value is not None:
            _put(args, place, value)
    if "num_detectors" not in args:
        args["num_detectors"] = _fitting(args.get("device", "auto"))

    from pipelines.online.running import running

    with running(args, host=host, port=port, address=address) as url, _stopped() as wait:
        print(f"jde serves at {url} (page, /docs, /metrics); Ctrl-C stops it", flush=True)
        wait()
        print("jde: draining", flush=True)


def read_args(path: Path) -> dict[str, Any]:
    """The arguments in a YAML file: its `args`, those of its first application, or all of it.

    Raises:
        RunError: If the file is missing or no mapping.
    """
    from models.settings_file import read_yaml

    try:
        content = read_yaml(path)
    except ValueError as error:
        raise RunError(f"config: {error}", ExitCode.REFUSED) from error
    if isinstance(content, dict) and content.get("applications"):
        content = content["applications"][0].get("args") or {}
    elif isinstance(content, dict) and "args" in content:
        content = content["args"]
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RunError(f"config: {path} holds no mapping of settings", ExitCode.REFUSED)
    return content


def _put(args: dict[str, Any], place: str, value: Any) -> None:
    *sections, name = place.split(".")
    for section in sections:
        args = args.setdefault(section, {})
    args[name] = value


def _number(name: str, text: str | None) -> int | None:
    if text is None or text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise RunError(f"{name}: got {text!r}, accepted is auto or from 1", ExitCode.REFUSED)
    return int(text)


def _fitting(device: str) -> int:
    """Detectors that this machine carries: one a GPU, else one a core."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.device_count()
    return max(1, len(os.sched_getaffinity(0)))


@contextmanager
def _stopped() -> Iterator[Any]:
    """A function that returns when SIGINT or SIGTERM has come."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main(serve, "serve")
