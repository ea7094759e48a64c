"""Flags and YAML become configurations, and nothing gets lost on the way."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
from typer.main import get_command

from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.options import (
    SECTIONS,
    Settings,
    build_settings,
    collect,
    parse_size,
    place_of,
)
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.jobs.console.runner import application
from jde_ray.jobs.console.settings import check_weights
from jde_ray.jobs.track import track
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.trackers.bytetrack import ByteTrackConfig
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.errors import ExitCode, RunError

# The options of `jde track`. A new one is a promise: add it here on purpose.
TRACK_OPTIONS = {
    "--address",
    "--camera-motion",
    "--no-camera-motion",
    "--frames",
    "--association",
    "--chunk-frames",
    "--compile",
    "--conf",
    "--conf-thres",
    "--config",
    "--device",
    "--from-detections",
    "--gpus-per-detector",
    "--graphs",
    "--help",
    "--log-file",
    "--imgsz",
    "--in-process-frames",
    "--metrics-port",
    "--reid",
    "--reid-mode",
    "--rect",
    "--refine",
    "--no-rect",
    "--iou",
    "--keep-partial",
    "--max-detections",
    "--max-frames",
    "--min-box-area",
    "--nms",
    "--nms-thres",
    "--num-associators",
    "--num-decoders",
    "--num-detectors",
    "--out",
    "--overwrite",
    "--precision",
    "--print-config",
    "--progress",
    "--quiet",
    "--resize",
    "--retry-errors",
    "--save-detections",
    "--save-embeddings",
    "--partition",
    "--s3-endpoint",
    "--blur",
    "--crops-per-track",
    "--save-crops",
    "--save-mot",
    "--save-video",
    "--score-map",
    "--size",
    "--source-pattern",
    "--timezone",
    "--threads",
    "--track-buffer",
    "--vid-stride",
    "--weights",
    "-h",
}

# A value for every flag that is not its default, and what it becomes.
OTHER_VALUES = {
    "weights": ("other.safetensors", "other.safetensors"),
    "reid": ("reid.onnx", "reid.onnx"),
    "reid_mode": ("needed", "needed"),
    "size": ("864x480", (864, 480)),
    "rect": (True, True),
    "compile": (True, True),
    "association": ("sort", "sort"),
    "conf": (0.3, 0.3),
    "nms": (0.6, 0.6),
    "max_detections": (50, 50),
    "precision": ("bf16", "bf16"),
    "resize": ("published", "published"),
    "score_map": ("30/15", "30/15"),
    "track_buffer": (60, 60),
    "min_box_area": (0.0, 0.0),
    "camera_motion": (False, False),
    "vid_stride": (2, 2),
    "max_frames": (10, 10),
    "device": ("cpu", "cpu"),
    "chunk_frames": (8, 8),
    "num_detectors": ("2", 2),
    "num_associators": ("3", 3),
    "num_decoders": ("4", 4),
    "gpus_per_detector": (0.25, 0.25),
    "threads": (2, 2),
    "graphs": (True, True),
    "in_process_frames": (0, 0),
    "metrics_port": (8081, 8081),
    "address": ("auto", "auto"),
    "s3_endpoint": ("http://localhost:9000", "http://localhost:9000"),
    "partition": ("2/3", "2/3"),
    "source_pattern": ("cams/{camera}", "cams/{camera}"),
    "timezone": ("Europe/Berlin", "Europe/Berlin"),
    "save_video": (True, True),
    "save_crops": (True, True),
    "crops_per_track": (5, 5),
    "blur": ("heads", "heads"),
    "save_mot": (True, True),
    "save_embeddings": (True, True),
    "save_detections": (True, True),
    "keep_partial": (True, True),
    "refine": (True, True),
    "progress": ("json", "json"),
    "quiet": (True, True),
    "log_file": ("run.log", "run.log"),
}


def get(settings: Settings, flag: str) -> object:
    section, field = place_of(FLAGS[flag])
    config = {
        "run": settings.track,
        "detection": settings.track.detection,
        "tracking": settings.track.tracking,
        "resources": settings.resources,
        "outputs": settings.outputs,
        "console": settings.console,
        "sources": settings.sources,
    }[section]
    return getattr(config, field)


def refused(**flags: object) -> str:
    with pytest.raises(RunError) as caught:
        build_settings(collect(flags, None))
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)
    return str(caught.value)


@takes(flags=FLAGS)
def typed_flags(*, flags: Given) -> Given:
    return flags


def test_the_option_list_is_frozen():
    command = get_command(application(track))
    names = [
        name for p in command.params for name in [*p.opts, *p.secondary_opts] if name[0] == "-"
    ]
    assert {*names, "-h", "--help"} == TRACK_OPTIONS


def test_every_flag_has_a_place_and_every_place_exists():
    parameters = inspect.signature(track).parameters
    assert set(FLAGS) <= set(parameters)
    for section, field in map(place_of, FLAGS.values()):
        assert field in {f.name for f in dataclasses.fields(SECTIONS[section])}
    assert set(OTHER_VALUES) == set(FLAGS)


def test_without_flags_the_configurations_decide():
    nothing = {flag: inspect.signature(track).parameters[flag].default for flag in FLAGS}
    assert typed_flags(**nothing) == {}
    settings = build_settings(collect({}, None))
    assert settings == Settings(TrackConfig(), ResourceConfig(), OutputConfig())


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_sets_its_field_and_no_other(flag):
    given, expected = OTHER_VALUES[flag]
    settings = build_settings(collect({flag: given}, None))
    plain = build_settings({})
    assert get(settings, flag) == expected != get(plain, flag)
    # another association has buffers of its own
    changed = ["association", "track_buffer"] if flag == "association" else [flag]
    assert [f for f in FLAGS if get(settings, f) != get(plain, f)] == changed


def test_what_can_be_switched_off_is_and_other_flags_not_given_are_not() -> None:
    given = typed_flags(rect=False, save_mot=False)
    assert collect(given, None) == {("detection", "rect"): False}


def test_yaml_says_the_same_as_flags_and_flags_win(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    lines = [f"{flag.replace('_', '-')}: {value}" for flag, (value, _) in OTHER_VALUES.items()]
    file.write_text("\n".join(lines))
    from_file = build_settings(collect({}, file))
    given = {flag: value for flag, (value, _) in OTHER_VALUES.items()}
    assert from_file == build_settings(collect(given, None))
    assert build_settings(collect({"conf": 0.9}, file)).track.tracking.high_score == 0.9


def test_auto_and_a_size_override_each_other(tmp_path: Path):
    auto, size = ("detection", "auto_size"), ("detection", "size")
    file = tmp_path / "settings.yaml"
    for text, typed, expected in (
        ("size: auto\n", {}, {auto: True}),
        ("size: 864x480\n", {"size": "auto"}, {auto: True}),
        ("size: auto\n", {"size": "864x480"}, {size: (864, 480)}),
        ("detection: {size: 864x480, auto_size: true}\n", {}, {auto: True}),
    ):
        file.write_text(text)
        assert collect(typed, file) == expected


def test_yaml_reaches_settings_that_have_no_flag(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("tracking: {appearance_limit: 0.6}\nnum-detectors: auto\n")
    settings = build_settings(collect({}, file))
    assert settings.track.tracking.appearance_limit == 0.6
    assert settings.resources.num_detectors is None
    file.write_text("num-detectors: 1-8\nresources: {num_decoders: [2, 6]}\n")
    resources = build_settings(collect({}, file)).resources
    assert (resources.num_detectors, resources.num_decoders) == ((1, 8), (2, 6))
    file.write_text("")
    assert build_settings(collect({}, file)) == build_settings({})


def test_an_association_has_settings_of_its_own(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("association: bytetrack\ntracking: {low_score: 0.2, fuse_scores: false}\n")
    settings = build_settings(collect({"conf": 0.7}, file))
    expected = ByteTrackConfig(high_score=0.7, low_score=0.2, fuse_scores=False)
    assert settings.track.tracking == expected
    assert settings.track.detection.score_threshold == 0.2
    assert settings.track.hash() != TrackConfig().hash()
    assert "mode: no setting of association sort" in refused_file(
        file, "tracking: {association: sort, mode: published}"
    )
    assert "tracking.fuse_scores: got" in refused_file(
        file, "tracking: {association: bytetrack, fuse_scores: much}"
    )


def refused_file(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(RunError) as caught:
        build_settings(collect({}, file))
    assert caught.value.exit_code == ExitCode.REFUSED
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed: 3", "unknown setting 'speed'"),
        ("tracking: {speed: 3}", "tracking.speed: no such setting"),
        ("tracking: 3", "unknown setting 'tracking'"),
        ("run: {detection: 3}", "run.detection: no such setting"),
        ("conf: high", "conf: got 'high'"),
        ("size: [100]", "size: got"),
        ("- conf", "holds no mapping"),
        ("conf: [", "cannot be read"),
    ],
)
def test_yaml_that_says_nothing_sensible_is_refused(tmp_path: Path, text: str, message: str):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(RunError, match=message) as caught:
        build_settings(collect({}, file))
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="cannot be read"):
        collect({}, tmp_path / "no.yaml")


def test_values_outside_their_limits_name_what_is_accepted():
    assert refused(conf=3.0) == "conf: got 3.0, expected 0.0 to 1.0"
    assert "nearest is 576x320" in refused(size="580x320")
    assert "WIDTHxHEIGHT" in refused(size="big")
    assert "'cpu'" in refused(device="tpu")
    assert "num-detectors: got 'many', expected auto, N or MIN-MAX" in refused(num_detectors="many")
    assert "expected MIN-MAX with MIN <= MAX" in refused(num_decoders="8-2")
    assert "metrics-port: got 0, expected 1 to 65535" in refused(metrics_port=0)
    assert "vid-stride" in refused(vid_stride=0)


def test_the_detector_hands_over_what_the_association_can_use(tmp_path: Path):
    assert build_settings(collect({"conf": 0.4}, None)).track.detection.score_threshold == 0.24
    file = tmp_path / "settings.yaml"
    file.write_text("tracking: {mode: published}\n")
    published = build_settings(collect({"conf": 0.4}, file)).track
    assert published.detection.score_threshold == 0.4
    file.write_text("detection: {score_threshold: 0.1}\n")
    assert build_settings(collect({}, file)).track.detection.score_threshold == 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"association": "sort"},
        {"association": "deepsort"},
        {"association": "bytetrack"},
        {"high_score": 0.3},
        {"association": "bytetrack", "high_score": 0.05},
        {"mode": "published"},
    ],
)
def test_settings_from_python_are_those_of_the_command(settings):
    values = {("tracking", name): value for name, value in settings.items()}
    from_command = check_weights(values).track
    from_python = TrackConfig(detection=detection_for(), tracking=build_config(**settings))
    assert from_python == from_command
    assert from_python.hash() == from_command.hash()
    assert from_python.detection.score_threshold == from_python.tracking.least_score


def test_a_threshold_that_was_asked_for_is_not_the_associations_matter():
    asked = DetectionConfig(score_threshold=0.05)
    assert TrackConfig(detection=asked, tracking=build_config("sort")).detection is asked
    assert DetectionConfig().threshold == TrackingConfig().least_score  # a network on its own


def test_sizes():
    assert parse_size("864X480") == parse_size("864,480") == (864, 480)
    assert parse_size("640") == (640, 640)
    for text in ("", "x", "1x2x3", "-32x32", "1.5x3"):
        with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
            parse_size(text)


def test_help_names_defaults_of_the_configurations():
    assert str(TrackConfig().tracking.high_score) in FLAGS["conf"].help()
    assert r"\[default: 0.4]" in FLAGS["nms"].help()
