"""Configuration of the service: frozen, checked, and read from the `args` of a Serve YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from jde_ray.models.tracking.registry import CONFIGS
from jde_ray.pipelines.config import DetectionConfig, Device, Resize, TrackConfig
from jde_ray.pipelines.formats.places_file import PlacesFile, parse_places, read_places
from jde_ray.pipelines.video.image_headers import MAX_SCANS

MIB = 1 << 20
MEMORY_PREFIX = "memory:"
KEEP_ALIVE_S = 15  # for a connection without calls
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


def _check_detection(detection: DetectionConfig) -> None:
    """Refuse settings of detection that a service cannot follow."""
    if detection.auto_size:
        raise ValueError("size: got auto, expected one size for all streams")
    if detection.resize != RESIZE:
        text = f"got {detection.resize}, expected {RESIZE}, as the service resizes"
        raise ValueError(f"resize: {text}")
    mode = detection.reid_mode
    if mode != "always":
        raise ValueError(f"reid_mode: got {mode}, expected always, as frames are served singly")


def _check_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name}: got {value}, expected from {least}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on what a client may ask of the service. No request can raise them.

    Attributes:
        max_body_bytes: Largest image file; a body is refused at the first byte beyond it.
        max_pixels: Largest decoded image.
        max_scans: Most scans of a progressive JPEG; each passes over all pixels.
        decode_s: Seconds to decode an image; a process that takes longer is killed.
        body_s: Seconds in which a body must arrive.
        request_s: Seconds in which a call is answered, waiting included.
        max_bodies: Bodies that may be arriving at once, per ingress.
        max_sockets: WebSockets that may be open at once, per ingress.
        max_image_bytes: Bytes of images that have arrived and are not answered, per ingress. Above
            it calls are refused, and sockets are not read, so that their clients wait.
        token_share: Fraction of `max_bodies`, `max_sockets` and `max_image_bytes` that one token
            may use. Without tokens every caller shares all of them.
        max_streams: Open streams per token.
        frames_per_second: Frames per second and token, over all its streams, per ingress.
        max_running: Maximum in-flight frames per detector and batch slot. Each of N ingresses gets
            1 / (N - 1) of the total, so that the rest carry on when one is lost. None: 1 where a
            batch is one image (CPUs, whose cores the ingress needs too), else 2, so that the next
            batch is prepared while one runs. Sockets may have 3 in flight on a CPU.
        max_waiting: Frames of calls that may wait behind those, per detector and batch slot;
            further calls get 503. The higher both limits, the longer an accepted frame takes under
            overload.
        max_unanswered: Frames that a WebSocket may send ahead of its answers.
        idle_s: Seconds after which a stream without frames ends.
        max_ids: Number of ended streams whose ids are remembered.
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
        """Seconds for which the snapshot of a stream without frames is kept."""
        return 2 * self.idle_s + 60


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Configuration of the whole service.

    Attributes:
        track: Network, association and filters, as offline, with `resize` as `RESIZE`.
        build_model: Builds another network than that of `track`, for tests; None: that one.
        device: Device that the network runs on; `auto` uses a GPU if Ray has one.
        torch_threads: Threads of a detector on the CPU.
        graphs: As in `ResourceConfig`: on a GPU, run the network from recorded graphs, with two
            batches in flight.
        num_detectors: Detector replicas; with autoscaling, the maximum.
        min_detectors: Minimum of detector replicas; None: no autoscaling.
        num_sessions: Session replicas that the streams are spread over.
        num_ingresses: Replicas that receive and decode images.
        num_decoders: Decoding processes per ingress; one token may use all but one. None: the
            number of cores, between 2 and 4.
        batch: Frames, of any streams, that go through the network together. None: 16 on a GPU,
            and 1 on a CPU, where a larger batch gains little and delays every answer.
        batch_wait_s: Seconds that an unfilled batch waits for more frames.
        snapshots: Where the state of streams is kept to survive their session: `actor`, `none`,
            `memory:FOLDER` (a folder below /dev/shm, if all replicas are on one machine), or the
            address of a folder or of an S3 prefix.
        snapshot_every: Frames between snapshots; with 1 a stream resumes exactly where it was.
        listen: `HOST:PORT` on which every ingress listens itself, as with `jde serve` on one
            machine; None: calls arrive through Serve's proxy.
        token_file: File of the accepted tokens, one per line; None: no token is needed.
        insecure: Without tokens, serve clients of other machines too.
        request_log: Where every call leaves a line of JSON: `stderr` (of the ingress's process,
            which Ray writes to a file; `jde serve` relays it to its own), `none`, or a file.
        places: Lines, zones and ground by camera, whose events are added to the answers of
            streams; None: no events. In a file of settings: the places, or the name of their file.
        leaving_file: When this file exists, `/readyz` is 503, so that a load balancer turns to
            other services; calls are still answered. None: no such file.
        limits: Limits on what clients may ask.
    """

    track: TrackConfig = field(default_factory=_default_track)
    build_model: Callable[..., Any] | None = None
    device: Device = "auto"
    torch_threads: int = 1
    graphs: bool = False
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
    places: PlacesFile | None = None
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
        _check_detection(self.track.detection)
        if self.listen is not None:
            split_address(self.listen)
        if self.snapshots in ("", MEMORY_PREFIX):
            text = "expected actor | none | memory:FOLDER | a folder | s3://"
            raise ValueError(f"snapshots: got {self.snapshots!r}, {text}")

    @property
    def has_session_inside(self) -> bool:
        """Whether the session runs inside the ingress, which it can where there is one of each.

        Between processes, the round trip of a frame takes ten times the tracker's time.
        """
        return self.listen is not None and self.num_ingresses == self.num_sessions == 1

    @cached_property  # read several times per frame; computing it takes 60 us
    def model(self) -> str:
        """Version of the model that answers: `small@<weights>.<configuration>`, 8 hex digits each.

        Two services with the same version give the same answers to the same stream.
        """
        detection = self.track.detection
        name = PurePath(detection.weights).name.removesuffix(".safetensors").removesuffix(".pt")
        return f"{name}@{detection.weights_sha256[:8] or 'unknown'}.{self.track.hash()[:8]}"


def read_config(values: Mapping[str, Any]) -> ServeConfig:
    """The configuration of nested plain values, as a Serve YAML's `args` holds them.

    `weights`, `size` and `conf` are accepted at the top level too. `track.detection.resize`
    defaults to `RESIZE`, unlike for `jde track`.

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
    places = values.pop("places", None)
    config: ServeConfig = _read(ServeConfig, values, "")
    return config if places is None else replace(config, places=_read_places(places))


def _read_places(value: Any) -> PlacesFile:
    if isinstance(value, PlacesFile):
        return value
    if isinstance(value, str):
        return read_places(Path(value))
    try:
        return parse_places(value)
    except ValueError as error:
        raise ValueError(f"places: {error}") from None


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
    """Settings of the association that `association` names, by default `jde`."""
    name = values.get("association", "jde")
    if name not in CONFIGS:
        raise ValueError(f"association: got {name!r}, expected {' | '.join(CONFIGS)}")
    return _read(CONFIGS[name], values, f"{place}tracking.")
