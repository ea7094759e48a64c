"""`jde serve`: people tracked in live streams, HTTP and WebSocket. Also `python -m jobs.serve`.

Turns the command line into the arguments of `pipelines.serving.deployments.build`, which a file
for `serve deploy` holds too (jobs/recipes/serve.yaml), and keeps the service up until it is told to
stop.
"""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from jde_ray.jobs.console.flags import Flag, Given, takes
from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.printed_settings import describe_environment, describe_service
from jde_ray.jobs.console.run_flags import choose, one_size
from jde_ray.jobs.console.runner import main, say
from jde_ray.jobs.console.serve_file import read_file
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError, one_line
from jde_ray.pipelines.serving.config import ServeConfig, read_config

_LEAVE_S = 2.0  # for which /readyz says 503 before the port is closed
# Without clusters Ray takes 127.0.0.1 for the address of this machine, and listens there only
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
Host = Annotated[
    str | None,
    typer.Option(
        help=r"Address to listen on; others than 127.0.0.1 need tokens. \[default: 127.0.0.1]"
    ),
]
Port = Annotated[int | None, typer.Option(help=r"Port to listen on. \[default: 8000]")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        show_default=False,
        help="Settings as in jobs/recipes/serve.yaml under args; flags win over it.",
    ),
]
PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config",
        metavar="",
        help="Print the settings of this call, as a file for --config, and do nothing else.",
    ),
]
Places = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        show_default=False,
        help="Lines and zones, as for jde count; adds their events to the answers of streams.",
    ),
]


# Paths of a configuration's settings in the service's arguments.
_PLACES: dict[type[Any], str] = {
    DetectionConfig: "track.detection.",
    TrackingConfig: "track.tracking.",
    TrackConfig: "track.",
    ResourceConfig: "",
    ServeConfig: "",
}
_AT_THE_TOP = ("weights", "size", "conf")  # a value there overrides a nested one

FLAGS = {
    "token_file": Flag(
        config=ServeConfig,
        field="token_file",
        text="File of accepted tokens, one per line.",
        metavar="FILE",
    ),
    "insecure": Flag(
        config=ServeConfig,
        field="insecure",
        text="Serve everyone who can reach the address, without tokens.",
    ),
    **choose("weights"),
    **one_size(),
    **choose(
        "rect",
        "conf",
        "nms",
        "max_detections",
        "precision",
        "track_buffer",
        "min_box_area",
        "camera_motion",
        "device",
        "threads",
        "graphs",
        "address",
    ),
    "num_detectors": Flag(
        config=ServeConfig,
        field="num_detectors",
        text="Detector replicas.",
        metavar="auto|N",
        default="one per GPU of this machine, else one per core",
    ),
    "num_sessions": Flag(
        config=ServeConfig, field="num_sessions", text="Session replicas to spread streams over."
    ),
    "num_ingresses": Flag(
        config=ServeConfig,
        field="num_ingresses",
        text="Replicas that receive requests and decode images.",
    ),
    "snapshots": Flag(
        config=ServeConfig,
        field="snapshots",
        text="Where to keep the state of streams so that they survive a lost replica.",
        metavar="actor|none|URI",
        default="this machine's memory; with --address, actor",
    ),
    "request_log": Flag(
        config=ServeConfig,
        field="request_log",
        text="Where to log each request, as a line of JSON.",
        metavar="stderr|none|FILE",
    ),
}


@takes(flags=FLAGS)
def serve(
    host: Host = None,
    port: Port = None,
    config: ConfigFile = None,
    places: Places = None,
    *,
    flags: Given,
    print_config: PrintConfig = False,
) -> int:
    """Track people in live streams; the page at the printed address lets you try it.

    Exit codes: 0 stopped; 1 internal; 2 refused before anything was started; 130, 143 interrupted.
    """
    args, http = ({}, {}) if config is None else read_file(config)
    address = flags.pop("address", ResourceConfig().address)  # of the Ray, no setting of a service
    for name, value in flags.items():
        read = _read(name, value)
        if read is not None:
            _put(args, _place(name), read)
    if places is not None:
        args["places"] = _places(places)
    door = {
        "host": host or http.get("host", "127.0.0.1"),
        "port": http.get("port", 8000) if port is None else port,
    }
    if print_config:
        return _print_settings(args, door)
    if "num_detectors" not in args:
        args["num_detectors"] = _fitting(args.get("device", "auto"))

    if address == "local":  # read by Ray when it is imported, which the next line does
        os.environ.setdefault(_CLUSTERS, "0")
    from jde_ray.pipelines.cluster import Interrupted, interruptible

    is_up = threading.Event()
    try:
        with interruptible():
            _serve(args, address, door, is_up)
    except Interrupted as stopped:
        if not is_up.is_set():
            return say("interrupted before the service was up", stopped.exit_code)
    return ExitCode.DONE


def _print_settings(args: dict[str, Any], door: dict[str, Any]) -> int:
    try:
        read_config(args)  # a wrong one is refused as in a service
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    about = describe_environment("serve", inspect.signature(serve).parameters)
    flags = {_place(name): flag for name, flag in FLAGS.items() if name != "address"}
    print("\n".join([*about, *describe_service(args, door, flags, ServeConfig())]))
    return ExitCode.DONE


def _serve(
    args: dict[str, Any], address: str, door: dict[str, Any], is_up: threading.Event
) -> None:
    from jde_ray.pipelines.serving.launch import running

    with running(args, address=address, **door) as service, _stopped() as wait:
        is_up.set()
        print(f"jde serves at {service.url} (page, /docs, /metrics); Ctrl-C stops it", flush=True)
        number = wait()
        print("jde: draining", flush=True)
        if number == signal.SIGTERM:
            service.leave(_LEAVE_S)


def _file_or_word(text: str) -> str:
    """Where the request log goes; a file that cannot be written is found before anything starts."""
    if text in ("stderr", "none"):
        return text
    path = Path(text).resolve()
    try:
        path.open("ab").close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        text = f"request-log: {path} cannot be written ({reason})"
        raise RunError(text, ExitCode.REFUSED) from error
    return str(path)


def _read(name: str, value: Any) -> Any:
    """The value of a flag as the service takes it; None leaves the choice to this machine.

    Raises:
        RunError: If it is not accepted.
    """
    match name:
        case "size":
            try:
                return parse_size(value)
            except ValueError as error:
                raise RunError(f"size: {error}", ExitCode.REFUSED) from error
        case "num_detectors":
            return _number("num-detectors", value)
        case "request_log":
            return _file_or_word(value)
        case "token_file":
            return _absolute(value)
        case _:
            return value


def _places(path: Path) -> Any:
    """The plain values of a file of places, read here: replicas may be on other machines."""
    from jde_ray.models.settings_file import read_yaml
    from jde_ray.pipelines.formats.places_file import parse_places

    try:
        values = read_yaml(path)
        parse_places(values)
    except ValueError as error:
        raise RunError(f"places: {error}", ExitCode.REFUSED) from error
    return values


def _absolute(path: str) -> str:
    try:
        return str(Path(path).resolve())
    except ValueError as error:  # a NUL byte
        raise RunError(f"token-file: got {path!r} ({error})", ExitCode.REFUSED) from error


def _place(name: str) -> str:
    """Where a flag's value stands in the service's arguments."""
    return name if name in _AT_THE_TOP else _PLACES[FLAGS[name].config] + FLAGS[name].field


def _put(args: dict[str, Any], place: str, value: Any) -> None:
    *sections, name = place.split(".")
    for section in sections:
        args = args.setdefault(section, {})
        if not isinstance(args, dict):
            text = f"{section}: got {args!r} in the file, expected a mapping of settings"
            raise RunError(one_line(text), ExitCode.REFUSED)
    args[name] = value


def _number(name: str, text: str | None) -> int | None:
    if text is None or text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise RunError(f"{name}: got {text!r}, expected auto or from 1", ExitCode.REFUSED)
    return int(text)


def _fitting(device: str) -> int:
    """Number of detectors for this machine: one per GPU, else one per core."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.device_count()
    return max(1, len(os.sched_getaffinity(0)))


@contextmanager
def _stopped() -> Iterator[Callable[[], int]]:
    """A function that waits for SIGINT or SIGTERM and returns which one came."""
    stop, came = threading.Event(), [0]

    def note(number: int, _frame: FrameType | None) -> None:
        came[0] = number
        stop.set()

    def wait() -> int:
        stop.wait()
        return came[0]

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:  # for good: while it drains a second signal changes nothing
        signal.signal(number, note)
    yield wait


if __name__ == "__main__":
    main(serve, "serve")
