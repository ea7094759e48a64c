"""The units in deploy/systemd: systemd reads them, and their command lines and variables exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from command_lines import parameters, parse
from places import ROOT

UNITS = sorted((ROOT / "deploy/systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze, of systemd")
def test_systemd_reads_the_units(tmp_path: Path):
    for unit in UNITS:
        text = unit.read_text().replace("/opt/jde-ray/bin/jde", "/bin/true")  # not installed here
        (tmp_path / unit.name).write_text(text)
    command = [str(ANALYZE), "verify", "--man=no", *(str(tmp_path / one.name) for one in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_its_command_line_is_understood(unit: Path):
    (command,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert program == "/opt/jde-ray/bin/jde"  # where `make install` puts it
    assert "PREFIX ?= /opt/jde-ray\n" in (ROOT / "Makefile").read_text()
    parse(arguments)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_its_variables_are_settings_of_its_verb(unit: Path):
    verb = unit.stem.removeprefix("jde-")
    named = re.findall(rf"\bJDE_{verb.upper()}_([A-Z_]+)=", unit.read_text())
    assert named
    assert {name.lower() for name in named} <= parameters(verb)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_it_runs_as_nobody_special_and_leaves_nothing_in_tmp(unit: Path):
    lines = unit.read_text().splitlines()
    assert {"User=jde", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"} <= {*lines}
