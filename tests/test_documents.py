"""Code in the documents works as far as one machine can tell, and what they refer to exists.

Python blocks run in a folder with a small archive (runs on Ray by the reference loop). Command
lines go through the parser of their verb, which does not run them. YAML goes through the reader of
its kind. A block that needs more than this machine says so: `# needs a cluster`.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import parse
from documents import Block, anchors, blocks, commands, inline_commands, links, names, paths
from made_videos import write_video
from typer.main import get_command

from jde_ray.jobs import cli
from jde_ray.jobs.bench.paper.systems import read_systems
from jde_ray.jobs.console.options import build_settings, collect
from jde_ray.jobs.console.runner import application
from jde_ray.models.sde.declaration_file import read_declaration, read_embedder
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.formats.places_file import parse_places
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.training.recipe_file import parse_recipe

BLOCKS = blocks()
DATA = {"text", "ini", "nginx", "http", "json"}  # this project neither reads nor runs these
# programs of the reader's system, which are not checked
SYSTEM = {
    "cd",
    "curl",
    "docker",
    "echo",
    "export",
    "ffmpeg",
    "git",
    "install",
    "journalctl",
    "jq",
    "kubectl",
    "mkdir",
    "npm",
    "openssl",
    "pip",
    "ray",
    "sudo",
    "systemctl",
    "tar",
    "tee",
    "useradd",
}


def of_kind(*kinds: str) -> Any:
    chosen = [block for block in BLOCKS if block.kind in kinds]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.place)


def test_blocks_are_found_and_say_what_they_are():
    assert len(BLOCKS) > 30
    assert {block.kind for block in BLOCKS} <= DATA | {"", "sh", "python", "yaml"}


@of_kind("", "sh")
def test_command_lines_are_understood(block: Block):
    lines = list(commands(block.text))
    assert lines
    for words in lines:
        check_command(words, block)


def check_command(words: list[str], block: Block) -> None:
    program, *arguments = words
    name = program.removeprefix(".venv/bin/").removeprefix("/opt/jde-ray/bin/")
    if name == "sudo":
        check_command(arguments, block)
    elif name == "jde" and arguments[0] in (*cli.COMPLETION_FLAGS, "--version"):
        assert len(arguments) < 3
    elif name == "jde":
        parse(arguments)
    elif name == "make":
        makefile = Path(cli.ROOT / "Makefile").read_text()
        targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
        given = {word.partition("=")[0] for word in arguments if "=" in word}
        assert given <= set(re.findall(r"^([A-Z]+) +\?=", makefile, re.MULTILINE))
    elif name == "python":
        module = arguments[arguments.index("-m") + 1]
        places = {place.removesuffix(".app"): verb for verb, (place, _, _) in cli.VERBS.items()}
        verb = places[f"jde_ray.{module}"]
        parse([verb, *arguments[arguments.index("-m") + 2 :]])
    else:
        assert name in SYSTEM, f"{block.place}: {words}: neither ours nor one of {SYSTEM}"
        if name == "ray":
            assert block.needs is not None
        images = [number for number, word in enumerate(arguments) if word.startswith("jde-ray:")]
        if name == "docker" and arguments[0] == "run":  # the image's entry point is jde
            parse(arguments[images[0] + 1 :])
        if "--" in arguments:  # a command for somewhere else
            check_command(arguments[arguments.index("--") + 1 :], block)


@pytest.mark.parametrize(
    "wrong",
    [["track", "x", "--fast"], ["bench", "figure4", "--no"], ["tune", "runs/x"], ["bench", "x"],
     ["track", "x", "--conf", "high"]],
    ids=" ".join,
)  # fmt: skip
def test_the_parser_refuses_what_is_wrong(wrong: list[str]):
    with pytest.raises(Exception, match=r"No such|Missing parameter: gt|valid number|^'x'$"):
        parse(wrong)


def test_flags_in_running_text_exist():
    seen = 0
    for place, (_, verb, *words) in inline_commands():
        assert verb in cli.VERBS, place
        module, name, _ = cli.VERBS[verb]
        command: Any = get_command(application(getattr(importlib.import_module(module), name)))
        commands_ = [command, *getattr(command, "commands", {}).values()]
        known = {o for c in commands_ for p in c.params for o in (*p.opts, *p.secondary_opts)}
        for word in words:
            flag = re.match(r"--[a-z][a-z0-9-]*", word)
            if flag is not None:
                assert flag[0] in known | {"--help"}, f"{place}: jde {verb} {word}"
                seen += 1
    assert seen > 10


def test_links_lead_somewhere():
    seen = 0
    for place, target, anchor in links():
        assert target.exists(), f"{place}: {target}"
        assert not anchor or anchor in anchors(target), f"{place}: #{anchor}"
        seen += 1
    assert seen > 30


def test_paths_exist():
    wrong = [
        f"{place}: {path.relative_to(cli.ROOT)}" for place, path in paths() if not path.exists()
    ]
    assert not wrong
    assert len(list(paths())) > 60


def test_the_readme_is_short_and_names_every_package():
    readme = (cli.ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    named = set(re.findall(r"\b(\w+)/ ", readme[readme.index("## The tree") :]))
    packages = [path.parent for top in ("models", "pipelines", "jobs")
                for path in (cli.ROOT / top).glob("*/__init__.py")]  # fmt: skip
    assert {package.name for package in packages} <= named


def test_dotted_names_exist():
    for place, name in names():
        try:
            pkgutil.resolve_name(f"jde_ray.{name.removeprefix('jde_ray.')}")
        except (ImportError, AttributeError) as error:
            pytest.fail(f"{place}: {name}: {error}")


@of_kind("yaml")
def test_settings_are_read(block: Block, tmp_path: Path):
    content = yaml.safe_load(block.text)
    file = tmp_path / "settings.yaml"
    file.write_text(block.text)
    if isinstance(content, list):
        assert read_systems(file)
    elif "sources" in content:
        parse_recipe(content)
    elif "resources" in content:  # of kustomize: tests/deploy/test_kubernetes.py builds it
        assert content["patches"]
    elif "places" in content:
        assert parse_places(content).entries
    elif (
        "groups" in content
    ):  # rules of Prometheus, which tests/pipelines/serving/test_metrics.py reads
        assert content["groups"]
    elif "scrape_configs" in content:  # of Prometheus
        assert all(one["static_configs"] for one in content["scrape_configs"])
    elif content.get("kind") == "PodMonitor":
        assert content["spec"]["podMetricsEndpoints"]
    else:
        _check_run(content, file)


def _check_run(content: dict[str, Any], file: Path) -> None:
    """Settings of a run, or the networks that its weights declare."""
    if "detector" in content:
        for part in ("detector", "embedder"):
            (file.parent / content[part].get("file", content[part].get("weights"))).touch()
        read_declaration(file)
    elif "file" in content:  # a re-identification network alone
        (file.parent / content["file"]).touch()
        assert read_embedder(file).size is not None
    else:
        build_settings(collect({}, file))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the blocks run: videos and a small finished run."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.detection.settings import detection_for
    from jde_ray.pipelines.video.synthetic import render_street

    folder = tmp_path_factory.mktemp("documents")
    scene = StreetScene(3, width=320, height=192, num_people=6, num_frames=2)
    render_street(scene, folder / "recordings" / "street.mp4", folder / "truth" / "street")
    write_video(folder / "my_video.mp4", num_frames=2)
    config = TrackConfig(detection=detection_for())
    outputs = OutputConfig(save_detections=True)
    resources = ResourceConfig(chunk_frames=2)
    sources, out = [str(folder / "recordings")], str(folder / "runs/archive")
    reference.track(sources, out, config, resources=resources, outputs=outputs)
    mine = folder / "runs/mine"  # what the shell commands of the first page leave behind
    mine.mkdir()
    (mine / "tracks").symlink_to(folder / "runs/archive/tracks")
    return folder


def without_progress(*arguments: Any, progress: Any = None, **options: Any) -> Any:
    return reference.track(*arguments, **options)


@of_kind("python")
def test_python_runs(block: Block, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    tree = ast.parse(block.text)
    for package in re.findall(r"# pip install (\S+)", block.text):
        pytest.importorskip(package, reason="of the extra `dev`")
    if block.needs is not None:  # then at least what it imports is there
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    monkeypatch.chdir(archive)
    monkeypatch.setattr(offline, "track", without_progress)
    exec(compile(tree, block.place, "exec"), {"__name__": "__main__"})  # noqa: S102
    assert block.needs is not None or capsys.readouterr().out
