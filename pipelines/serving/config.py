"""What the service is told: frozen, checked, and readable from the `args` of a Serve YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from jde_ray.models.tracking.registry import CONFIGS
from jde_ray.pipelines.config import DetectionConfig, Device, Parts, Resize, TrackConfig
from jde_ray.pipelines.video.image_headers import MAX_SCANS

MIB = 1 << 20
MEMORY_PREFIX = "memory:"
KEEP_ALIVE_S = 15  # of a connection without calls
RESIZE: Resize = "published"  # the only resizing that `images.to_network` has


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, an IPv6 host in brackets.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or "@" in address or parts.netloc != address:
        raise ValueError(f"listen: got {address!r}, expected HOST:PORT")
    return host, port


def _default_track() -> TrackConfig:
    return TrackConfig(detection=DetectionConfig(resize=RESIZE))


def _check_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name}: got {value}, expected from {least}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask of the service. No request can raise one of them.

    Attributes:
        max_body_bytes: Of an image; one byte more is refused when it arrives.
        max_pixels: Of a decoded image.
        max_scans: Of a progressive JPEG, each of which passes over all pixels.
        decode_s: Seconds in which an image is decoded; the process that has not is ended.
        body_s: Seconds in which a body must arrive.
        request_s: Seconds in which a call is answered, waiting included.
        max_bodies: Bodies that may be arriving at once in one ingress.
        max_sockets: WebSockets that may be open at once in one ingress.
        max_image_bytes: Of the images that have arrived in one ingress and are not answered. Above
            it no more is read from sockets, whose clients have to wait, and calls are refused.
        token_share: Part of `max_bodies`, `max_sockets` and `max_image_bytes` that one token may
            have. Without tokens there is nobody else, and it is all of them.
        max_streams: Open streams of a token.
        frames_per_second: Frames a second of a token, over all its streams, in one ingress.
        max_running: Frames at once on their way through the detectors, for each detector and image
            of its batch (an ingress of N admits 1 / (N - 1) of it all); None is 1 where batches are
            of one image (CPUs, whose cores the ingress needs too), else 2, so that the next batch
            is made ready beside the running one. Frames of sockets may be 3 on a CPU.
        max_waiting: Frames of calls that may wait behind them, for each detector; further ones get
            503. The more of both, the longer an accepted one takes under overload.
        max_unanswered: Frames that a WebSocket may be ahead of its answers.
        idle_s: Seconds after which a stream without frames ends.
        max_ids: Ended streams that are remembered as such.
    """

    max_body_bytes: int = 16 * MIB
    max_pixels: int = 36_000_000
    max_scans: int = MAX_SCANS
    decode_s: float = 5.0
    body_s: float = 10.0
    request_s: float = 30.0
    max_bodies: int = 256
    max_sockets: int = 256
    max_image_bytes: int = 256 * MIB
    token_share: float = 0.5
    max_streams: int = 64
    frames_per_second: float = 2000.0
    max_running: int | None = None
    max_waiting: int = 1
    max_unanswered: int = 16
    idle_s: float = 60.0
    max_ids: int = 10_000

    def __post_init__(self) -> None:
        for setting in fields(self):
            name = setting.name
            if name == "token_share":
                least = 0.01
            else:
                least = (
                    0 if name == "max_waiting" else 0.01 if name.endswith(("_s", "_second")) else 1
                )
            if name != "max_running" or self.max_running is not None:
                _check_least(name, getattr(self, name), least)
        if self.token_share > 1:
            raise ValueError(f"token_share: got {self.token_share}, expected to 1")

    @property
    def snapshot_lasts_s(self) -> float:
        """How long the snapshot of a stream without frames is kept: a while after its end."""
        return 2 * self.idle_s + 60


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The whole service.

    Attributes:
        track: Network, association and filters, as offline, with `resize` as `RESIZE`.
        parts: Import path of the model's class.
        device: Of the network; `auto` takes a GPU where Ray has one.
        torch_threads: Threads of a detector on the CPU.
        num_detectors: Detector replicas; with autoscaling the most there may be.
        min_detectors: Fewest detector replicas; None: no autoscaling.
        num_sessions: Session replicas, over which the streams are spread.
        num_ingresses: Replicas that receive and decode.
        num_decoders: Decoding processes of an ingress, of which one token has all but one. None:
            as many as cores, from 2 to 4.
        batch: Frames, of any streams, that go through the network together. None: 16 on a GPU,
            and 1 on a CPU, where a larger batch gains little and every answer would wait for it.
        batch_wait_s: How long an unfilled batch waits.
        snapshots: Where the state of streams is kept beside their session: `actor`, `none`,
            `memory:FOLDER` (FOLDER below /dev/shm, of services on one machine), or the address of
            a folder or of an S3 prefix.
        snapshot_every: Frames between snapshots; 1 resumes a stream exactly where it was.
        listen: `HOST:PORT` on which every ingress listens itself, as `jde serve` wants it on one
            machine; None: calls come by Serve's proxy.
        token_file: File of the accepted tokens, one a line; None: no token is asked for.
        insecure: Without tokens, clients of other machines are served too.
        request_log: Where every call leaves a line of JSON: `stderr` (of the ingress's process,
            which Ray writes to a file; `jde serve` brings it to its own), `none`, or a file.
        leaving_file: As soon as it is there, `/readyz` says 503, so that whoever spreads the calls
            takes others; what comes is answered until the service ends. None: no such file.
        limits: Of the clients.
    """

    track: TrackConfig = field(default_factory=_default_track)
    parts: Parts = field(default_factory=Parts)
    device: Device = "auto"
    torch_threads: int = 1
    num_detectors: int = 1
    min_detectors: int | None = None
    num_sessions: int = 1
    num_ingresses: int = 1
    num_decoders: int | None = None
    batch: int | None = None
    batch_wait_s: float = 0.005
    snapshots: str = "actor"
    snapshot_every: int = 1
    listen: str | None = None
    token_file: str | None = None
    insecure: bool = False
    request_log: str = "stderr"
    leaving_file: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        counts = ("num_detectors", "num_sessions", "num_ingresses", "snapshot_every")
        for name in (*counts, "torch_threads"):
            _check_least(name, getattr(self, name), 1)
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device: got {self.device!r}, expected auto | cpu | cuda")
        if self.batch is not None:
            _check_least("batch", self.batch, 1)
        if self.num_decoders is not None:
            _check_least("num_decoders", self.num_decoders, 2)
        _check_least("batch_wait_s", self.batch_wait_s, 0)
        least = self.min_detectors
        if least is not None and not 1 <= least <= self.num_detectors:
            text = f"got {least}, expected 1 to num_detectors ({self.num_detectors})"
            raise ValueError(f"min_detectors: {text}")
        resize = self.track.detection.resize
        if resize != RESIZE:
            raise ValueError(f"resize: got {resize}, expected {RESIZE}, as the service resizes")
        if self.listen is not None:
            split_address(self.listen)
        if self.snapshots in ("", MEMORY_PREFIX):
            text = "expected actor | none | memory:FOLDER | a folder | s3://"
            raise ValueError(f"snapshots: got {self.snapshots!r}, {text}")

    @property
    def has_session_inside(self) -> bool:
        """Whether the session is a part of the ingress: where all calls come to the same one.

        Between processes a frame's way to its tracker and back takes ten times the tracker's time.
        """
        return self.listen is not None and self.num_ingresses == self.num_sessions == 1

    @cached_property  # named several times a frame, and 60 us to make
    def model(self) -> str:
        """Version of what answers: `small@<weights>.<configuration>`, 8 hex digits each.

        Two services with the same version give the same answers to the same stream.
        """
        detection = self.track.detection
        name = PurePath(detection.weights).name.removesuffix(".safetensors").removesuffix(".pt")
        return f"{name}@{detection.weights_sha256[:8] or 'unknown'}.{self.track.hash()[:8]}"


def read_config(values: Mapping[str, Any]) -> ServeConfig:
    """The configuration of nested plain values, as a Serve YAML's `args` holds them.

    `weights`, `size` and `conf` may stand at the top too. `track.detection.resize` is `RESIZE`
    unless given, while `jde track` has another default.

    Raises:
        ValueError: If a name is unknown or a value not accepted.
    """
    values = dict(values)
    track = dict(values.get("track") or {})
    for name, section in (("weights", "detection"), ("size", "detection"), ("conf", "tracking")):
        if name in values:
            inner = dict(track.get(section) or {})
            inner["high_score" if name == "conf" else name] = values.pop(name)
            track[section] = inner
    detection = track.get("detection", {})
    if isinstance(detection, Mapping):
        track["detection"] = {"resize": RESIZE, **detection}
    values["track"] = track
    config: ServeConfig = _read(ServeConfig, values, "")
    return config


def _read(kind: type[Any], values: Mapping[str, Any], place: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind)
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            accepted = ", ".join(hints)
            raise ValueError(f"{place}{name}: no such setting, expected {accepted}")
        hint = hints[name]
        if kind is TrackConfig and name == "tracking" and isinstance(value, Mapping):
            read[name] = _read_association(value, place)
            continue
        if is_dataclass(hint) and isinstance(value, Mapping):
            read[name] = _read(hint, value, f"{place}{name}.")  # type: ignore[arg-type]
            continue
        if kind is DetectionConfig and name == "size" and isinstance(value, str):
            value = value.lower().split("x")  # noqa: PLW2901
        try:
            read[name] = TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            text = error.errors()[0]["msg"].replace("Input should be", "expected")
            raise ValueError(f"{place}{name}: got {value!r}, {text}") from None
    return kind(**read)


def _read_association(values: Mapping[str, Any], place: str) -> Any:
    """Settings of the association that `association` names; ours unless it names another."""
    name = values.get("association", "jde")
    if name not in CONFIGS:
        raise ValueError(f"association: got {name!r}, expected {' | '.join(CONFIGS)}")
    return _read(CONFIGS[name], values, f"{place}tracking.")
