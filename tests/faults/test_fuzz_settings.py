"""Random flags and YAML are accepted, or refused with one line and exit code 2; no tracebacks.

The work of the commands is replaced, so that only their reading of settings is tested. Some cases
run with the suite; with `pytest -m slow -s` they run for `JDE_FUZZ_SECONDS` (180 by default) from a
seed that is printed. A failure names its seed.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from jde_ray.jobs import cli
from jde_ray.jobs.console import options, run_flags
from jde_ray.jobs.console.runner import application
from jde_ray.models.tracking.registry import CONFIGS
from jde_ray.pipelines.detection import settings as detection_settings
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import Augmentation, TrainingConfig
from jde_ray.pipelines.training.source import Source

TEXTS = (
    "", " ", "0", "1", "-1", "0.5", "1e309", "nan", "-inf", "1_0", "٣", "0x10", "9" * 40, "true",
    "no", "None", "null", "auto", "none", "cpu", "small", "864x480", "32x0", "0x0",
    "9999999999x32", "x", "1/0", "0/0", "2/1", "1/2", "k/K", "jde", "published", "bytetrack",
    "high_score=0.1", "..", "/", "/dev/null", "ü", "é" * 300, "a\nb", "\x00", "\udcff", "[bold]",
    "{}", "--", "-", "=", "@", "s3://", "http://", "*",
)  # fmt: skip
PLAIN: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**30, 0.5, -0.1, float("nan"), float("inf"), [], {}, [1, 2],
    [[]], {"a": 1}, {1: 2}, {None: None}, b"bytes", *TEXTS[:34],
)  # fmt: skip
# what PyYAML says with another error than its own
BROKEN = (
    "a: 2020-13-45", "a: !!int x", "a: !!float x", "a: !!timestamp x", "[" * 400, "{" * 400,
    "a: &a [*a]", "a: *b", "{[1]: 2}", "{{}: 2}", "- - - -", "\t", "a:\n\tb", "%YAML 9",
    "!!python/object:os.x {}", "\x07", "a: b: c", "? ", "<<: 3", "<<: [3]", "a: !!binary x",
    "a: !!set {1}", "a: !!omap x", "\ufeffa: 1", "---\n---",
)  # fmt: skip


def value(dice: random.Random, depth: int = 0) -> Any:
    if depth < 2 and dice.random() < 0.15:
        return [value(dice, depth + 1) for _ in range(dice.randrange(4))]
    if depth < 2 and dice.random() < 0.1:
        return {dice.choice(TEXTS): value(dice, depth + 1) for _ in range(dice.randrange(3))}
    return dice.choice(PLAIN)


def mapping(dice: random.Random, names: list[str], depth: int = 0) -> dict[Any, Any]:
    """Some settings of these names, and now and then one of none."""
    chosen = dice.sample(names, min(len(names), dice.choice((1, 1, 2, 5))))
    if dice.random() < 0.1:
        chosen.append(dice.choice(PLAIN[:10]))
    return {name: value(dice, depth) for name in chosen}


def yaml_text(dice: random.Random, content: Any) -> str:
    text = yaml.safe_dump(content, allow_unicode=True)
    if dice.random() < 0.1:
        text = dice.choice(BROKEN)
    if dice.random() < 0.2:  # as a slip of the hand or a bad disk leaves it
        place = dice.randrange(len(text) + 1)
        slip = dice.choice(("", ":", "\t", "[", "]", "'", "- ", "&a ", "\n"))
        text = text[:place] + slip + text[place + 1 :]
    return text


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def names_of(*kinds: type[Any]) -> list[str]:
    return sorted({field.name for kind in kinds for field in fields(kind)})


def settings_file(dice: random.Random, folder: Path) -> Path:
    """For `jde track --config`, by flags and by sections."""
    content: Any = mapping(dice, sorted(run_flags.FLAGS))
    for section, kind in options.SECTIONS.items():
        if dice.random() < 0.3:
            kinds = CONFIGS.values() if section == "tracking" else [kind]
            content[section] = (
                value(dice) if dice.random() < 0.1 else mapping(dice, names_of(*kinds), 1)
            )
    return write(
        folder / "settings.yaml", yaml_text(dice, content if dice.random() < 0.95 else value(dice))
    )


def recipe_file(dice: random.Random, folder: Path) -> Path:
    """For `jde train --config`: near one that is right, or far."""
    content: Any = {"network": "small", "licence": "ours", "training": {"epochs": 1}}
    content["sources"] = [{"kind": "sequence", "path": "x"}]
    for section, kind in (("training", TrainingConfig), ("augmentation", Augmentation)):
        if dice.random() < 0.4:
            content[section] = mapping(dice, names_of(kind), 1)
    if dice.random() < 0.4:
        content["sources"] = [{"path": "x", "kind": "boxes"} | mapping(dice, names_of(Source), 1)]
    if dice.random() < 0.4:
        content |= mapping(dice, names_of(Recipe))
    return write(folder / "recipe.yaml", yaml_text(dice, content))


def service_file(dice: random.Random, folder: Path) -> Path:
    """For `jde serve --config`."""
    from jde_ray.pipelines.config import DetectionConfig, TrackConfig
    from jde_ray.pipelines.serving.config import ServeConfig

    content: Any = mapping(dice, names_of(ServeConfig))
    if dice.random() < 0.5:
        content["track"] = mapping(dice, names_of(TrackConfig), 1)
        if dice.random() < 0.5:
            content["track"]["detection"] = mapping(dice, names_of(DetectionConfig), 1)
        if dice.random() < 0.5:
            content["track"]["tracking"] = mapping(dice, names_of(*CONFIGS.values()), 1)
    if dice.random() < 0.3:
        content = {"args": content}
    elif dice.random() < 0.3:
        content = {"applications": [{"args": content}]}
    return write(folder / "service.yaml", yaml_text(dice, content))


def flags(dice: random.Random, verb: str) -> list[str]:
    """Random flags of a verb, most of them there, with values that most of them do not want."""
    command: Any = get_command(application(getattr(*_place(verb))))
    known = sorted({o for p in command.params for o in p.opts if o.startswith("--")})
    known = [name for name in known if name not in ("--help", "--address", "--config")]
    arguments = [dice.choice(TEXTS) for _ in range(dice.choice((0, 1, 1, 2)))]
    for _ in range(dice.choice((0, 1, 2, 4))):
        arguments.append(dice.choice(known) if dice.random() < 0.95 else f"--{dice.choice(TEXTS)}")
        if dice.random() < 0.8:
            arguments.append(dice.choice(TEXTS))
    return arguments


def _place(verb: str) -> tuple[Any, str]:
    module, name, _ = cli.VERBS[verb]
    return __import__(module, fromlist=[name]), name


def track(dice: random.Random, folder: Path) -> list[str]:
    arguments = [
        "track",
        str(folder / "videos"),
        "--out",
        str(folder / "out"),
        *flags(dice, "track")[1:],
    ]
    if dice.random() < 0.7:
        arguments += ["--config", str(settings_file(dice, folder))]
    return arguments


def train(dice: random.Random, folder: Path) -> list[str]:
    file = str(recipe_file(dice, folder))
    more = flags(dice, "train")[1:] if dice.random() < 0.3 else []
    return ["train", "--config", file, "--data", str(folder / "none"), "--dry-run", *more]


def serve(dice: random.Random, folder: Path) -> list[str]:
    more = flags(dice, "serve") if dice.random() < 0.4 else []
    return ["serve", "--config", str(service_file(dice, folder)), *more]


def other(dice: random.Random, folder: Path) -> list[str]:
    """Verbs whose files are not there: whatever is said, there is nothing to do."""
    verb = dice.choice(("eval", "refine", "tune", "export", "doctor --store x://y"))
    missing = {"eval": ["--gt", "gt"], "tune": ["--gt", "gt", "--param", dice.choice(TEXTS)]}
    name, *more = verb.split()
    return [name, *more, *missing.get(name, []), *flags(dice, name)]


class AcceptedError(Exception):
    """In place of the work: the settings were taken."""


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with one video, as the working directory; no verb gets beyond its settings."""

    def stop(*_: Any, **__: Any) -> Any:
        raise AcceptedError

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    monkeypatch.chdir(tmp_path)
    for place in (
        "tracking.offline.track",
        "tracking.reference.track",
        "tracking.from_detections.track",
        "refinement.run.refine",
        "evaluation.tuning.tune",
    ):
        monkeypatch.setattr(f"jde_ray.pipelines.{place}", stop)
    monkeypatch.setattr("jde_ray.pipelines.cluster.connected", stop)
    monkeypatch.setattr("jde_ray.pipelines.serving.launch.running", stop)
    monkeypatch.setattr("jde_ray.pipelines.training.trainer.train_here", stop)
    monkeypatch.setattr("jde_ray.pipelines.training.ray_train.train_on_ray", stop)
    monkeypatch.setattr(detection_settings, "inspect", lru_cache(detection_settings.inspect))
    return tmp_path


def check(seed: int, build: Callable[[random.Random, Path], list[str]], folder: Path) -> None:
    arguments = build(random.Random(seed), folder)
    said = f"seed {seed} of {build.__name__}: {arguments!r}"
    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        code = cli.run(arguments)
    text = errors.getvalue()
    if "AcceptedError" in text or code == ExitCode.DONE:
        return
    if arguments[0] == "doctor" and "FAIL" in output.getvalue():  # of a store it may not use
        assert (code, text) == (ExitCode.INTERNAL, ""), said
        return
    file = next(folder.glob("*.yaml"), None)
    said += f"\n{text}\n{file and file.read_bytes()[:600]!r}"
    assert code == ExitCode.REFUSED, said
    assert "internal" not in text, said
    lines = text.splitlines()
    assert lines[-1].startswith("jde: error: "), said
    assert sum(line.startswith("jde: error: ") for line in lines) == 1, said
    assert "Traceback" not in text, said


BUILDERS = (track, train, serve, other)


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_any_settings_are_taken_or_refused_in_a_line(build, no_work: Path) -> None:
    for seed in range(5):
        check(seed, build, no_work)


def test_any_file_is_taken_or_refused_in_a_line(no_work: Path) -> None:
    for text in BROKEN:
        file = write(no_work / "broken.yaml", text)
        check(
            0, lambda *_, f=str(file): ["track", "videos", "--out", "out", "--config", f], no_work
        )


@pytest.mark.parametrize("text", ["a: 2020-13-45", "[" * 400, "3", "a: b: c", ""])
def test_every_verb_reads_files_alike(text: str, no_work: Path) -> None:
    file = str(write(no_work / "broken.yaml", text))
    for arguments in (
        ["train", "--data", "none", "--dry-run", "--config", file],
        ["serve", "--config", file],
        ["track", "videos", "--out", "out", "--weights", file],
    ):
        check(0, lambda *_, given=arguments: given, no_work)


@pytest.mark.slow
def test_many_settings_are_taken_or_refused_in_a_line(no_work: Path) -> None:
    seed, cases = random.SystemRandom().getrandbits(32), 0
    end = time.monotonic() + float(os.environ.get("JDE_FUZZ_SECONDS", "180"))
    sys.stderr.write(f"first seed {seed}\n")
    while time.monotonic() < end:
        for build in BUILDERS:
            check(seed + cases, build, no_work)
        cases += 1
    sys.stderr.write(f"{cases} cases of each of {len(BUILDERS)} kinds\n")
    assert cases
