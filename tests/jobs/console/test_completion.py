"""The Tab key: verbs, flags and choices, for every verb, without importing the others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from places import ROOT

from jde_ray.jobs import cli


def words(line: str) -> list[str]:
    """What bash is offered at the end of a line."""
    *_, last = typed = line.split(" ")
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(typed) - 1),
        "_JDE_COMPLETE": "complete_bash",
    }
    code = (
        "import sys\n"
        "from jobs.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'ray', 'torch', 'av'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if not any(verb in typed for verb in cli.VERBS):
        assert done.stderr.strip() == ""
    found = done.stdout.split()
    assert all(word.startswith(last) for word in found)
    return found


def test_verbs_and_their_verbs():
    assert words("jde ") == list(cli.VERBS)
    assert words("jde tr") == ["track", "train"]
    assert "network" in words("jde bench ne")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_offers_its_flags(verb, capsys, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", f"jde {verb} --")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_JDE_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit) as ended:
        cli.run([])
    assert ended.value.code == 0
    flags = capsys.readouterr().out.split()
    assert "--help" in flags
    assert verb in ("bench", "data") or len(flags) >= 2  # one of its own, and --help


def test_flags_and_choices():
    assert words("jde track --save-m") == ["--save-mot"]
    assert words("jde track x --association b") == ["bytetrack"]
    assert words("jde track --progress ") == ["auto", "lines", "json", "none"]
    assert words("jde track --out ") == []  # the shell offers files
    assert words("jde bench network --prec") == ["--precision"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("convert x --to c", ["coco", "cvat", "csv"]),
        ("data convert cal", ["caltech"]),
        ("eval x --benchmark MOT1", ["MOT15", "MOT16", "MOT17"]),
        ("eval x --labels c", ["coco", "cvat"]),
        ("tune x --search ", ["grid", "optuna"]),
        ("tune x --metric ID", ["IDF1"]),
        ("train --embedding-loss t", ["triplet"]),
        ("train --network sm", ["small"]),
        ("demo --device c", ["cpu", "cuda"]),
    ],
)
def test_every_flag_with_a_closed_list_of_values_offers_them(line, offered, capsys, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", f"jde {line}")
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ") + 1))
    monkeypatch.setenv("_JDE_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        cli.run([])
    assert set(offered) <= set(capsys.readouterr().out.split())


def test_the_script_of_a_shell_is_printed_or_installed(capsys, monkeypatch, tmp_path):
    assert cli.run(["--show-completion", "bash"]) == 0
    assert "complete -o default -F _jde_completion jde" in capsys.readouterr().out
    assert cli.run(["--show-completion=zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef jde")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.run(["--install-completion", "bash"]) == 0
    path = tmp_path / ".bash_completions/jde.sh"
    assert str(path) in capsys.readouterr().out
    assert str(path) in (tmp_path / ".bashrc").read_text()
    assert "_JDE_COMPLETE=complete_bash" in path.read_text()


def test_a_shell_that_is_not_known_is_refused(capsys):
    assert cli.run(["--show-completion", "csh"]) == 2
    expected = "show-completion: got csh, expected bash, zsh, fish, powershell, pwsh"
    assert expected in capsys.readouterr().err
