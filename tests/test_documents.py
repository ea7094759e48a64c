"""Every block of code in README and docs does what it says, as far as one machine can tell.

Python blocks are run in a folder with a small archive (a dataflow on Ray by its loop without Ray).
Command lines go through the parser of their verb, which does not run them. YAML is read by what
reads it. A block that needs more than this machine says so: `# needs a cluster`.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import Block, blocks, commands, inline_commands
from made_videos import write_video
from typer.main import get_command

from jde_ray.jobs import cli
from jde_ray.jobs.console.options import build_settings, collect
from jde_ray.jobs.console.runner import _application
from jde_ray.models.sde.declaration import read_declaration
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.training.recipe import parse_recipe

BLOCKS = blocks()
DATA = {"text", "ini", "nginx", "http", "json"}  # nothing that this project reads or runs
# of the system, which the reader has or not; what they do is not ours
SYSTEM = {"cd", "curl", "docker", "export", "git", "mkdir", "npm", "pip", "ray", "tar", "sudo"}


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
    name = program.removeprefix(".venv/bin/")
    if name == "jde":
        parse(arguments)
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", Path(cli.ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif name == "python":
        module = arguments[arguments.index("-m") + 1]
        places = {place.removesuffix(".app"): verb for verb, (place, _, _) in cli.VERBS.items()}
        verb = places[f"jde_ray.{module}"]
        parse([verb, *arguments[arguments.index("-m") + 2 :]])
    else:
        assert name in SYSTEM, f"{block.place}: {words}: neither ours nor one of {SYSTEM}"
        if name == "ray":
            assert block.needs is not None
        if "--" in arguments:  # a command for somewhere else
            check_command(arguments[arguments.index("--") + 1 :], block)


def parse(arguments: list[str]) -> None:
    """Give the arguments to the verb's own parser, which runs nothing; it raises what users see."""
    verb, *rest = arguments
    module, name, _ = cli.VERBS[verb]
    command: Any = get_command(_application(getattr(importlib.import_module(module), name)))
    context = command.make_context(f"jde {verb}", list(rest))
    if hasattr(command, "commands"):
        inner = [*context._protected_args, *context.args]
        command.commands[inner[0]].make_context(inner[0], inner[1:], parent=context)


@pytest.mark.parametrize(
    "wrong",
    [["track", "x", "--fast"], ["bench", "figure4", "--no"], ["eval", "runs/x"], ["bench", "x"],
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
        command: Any = get_command(_application(getattr(importlib.import_module(module), name)))
        commands_ = [command, *getattr(command, "commands", {}).values()]
        known = {o for c in commands_ for p in c.params for o in (*p.opts, *p.secondary_opts)}
        for word in words:
            flag = re.match(r"--[a-z][a-z0-9-]*", word)
            if flag is not None:
                assert flag[0] in known | {"--help"}, f"{place}: jde {verb} {word}"
                seen += 1
    assert seen > 10


@of_kind("yaml")
def test_settings_are_read(block: Block, tmp_path: Path):
    content = yaml.safe_load(block.text)
    file = tmp_path / "settings.yaml"
    file.write_text(block.text)
    if "sources" in content:
        parse_recipe(content)
    elif "detector" in content:
        for part in ("detector", "embedder"):
            (tmp_path / content[part]["file"]).touch()
        read_declaration(file)
    else:
        build_settings(collect({}, file))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video and a small finished run, where the blocks are run."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.detection.settings import detection_for
    from jde_ray.pipelines.video.synthetic import render_street

    folder = tmp_path_factory.mktemp("documents")
    scene = StreetScene(3, width=320, height=192, num_people=6, num_frames=2)
    render_street(scene, folder / "recordings" / "street.mp4", folder / "truth" / "street")
    write_video(folder / "my_video.mp4", num_frames=2)
    config = TrackConfig(detection=detection_for("small"))
    outputs = OutputConfig(save_detections=True)
    resources = ResourceConfig(chunk_frames=2)
    sources, out = [str(folder / "recordings")], str(folder / "runs/archive")
    reference.track(sources, out, config, resources=resources, outputs=outputs)
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
