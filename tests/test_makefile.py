"""`make demo` on a new machine: of pip's pages of text it shows what a person waits for."""

from __future__ import annotations

import re
import subprocess

from places import ROOT

PIP = """Obtaining file:///home/me/jde-ray
  Installing build dependencies: started
Collecting ray<2.61,>=2.60 (from ray[data,serve,train]<2.61,>=2.60->jde-ray==0.1.0)
  Downloading ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl.metadata (21 kB)
Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (530.7 MB)
   ---------------------------------------- 530.7/530.7 MB 11.2 MB/s  0:00:47
Downloading nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl (1.2 GB)
Using cached ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl (73.2 MB)
Downloading zipp-4.0.0-py3-none-any.whl (9.1 MB)
Installing collected packages: nvidia-cusparselt, mpmath, zipp
Successfully installed annotated-doc-0.0.4 jde-ray-0.1.0
"""


def rule(target: str) -> str:
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    return re.split(r"\n\n", text[text.index(f"\n{target}:") + 1 :], maxsplit=1)[0]


def test_the_installation_shows_what_is_large() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    (filtering,) = re.findall(r"^SHOW_LARGE := (.*)$", makefile, re.MULTILINE)
    programs = re.findall(r"-e '(.*?)'", filtering)
    command = ["sed", "-unE", *(word for program in programs for word in ("-e", program))]
    shown = subprocess.run(command, input=PIP, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "  torch 2.13.0 (530.7 MB)",
        "  nvidia_cublas 13.1.0.3 (1.2 GB)",
        "  ray 2.60.0 (73.2 MB)",
        "  unpacking and compiling, a minute or two",
    ]


def test_it_says_first_what_is_installed_and_how_large_that_is() -> None:
    for target in ("$(VENV)/.installed", "install"):
        first = rule(target).splitlines()[1]
        assert re.match(r'\t@echo "installing (jde, )?torch', first)
        assert re.search(r"\d GB on disk", first)
        assert rule(target).count("| $(SHOW_LARGE)") == 1
    assert "pipefail" in (ROOT / "Makefile").read_text()  # an error of pip ends make


def test_a_production_host_gets_no_test_tools() -> None:
    lines = subprocess.run(
        ["make", "--dry-run", "install", "PREFIX=/srv/jde", "EXTRAS=hub,onnx"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    (installs,) = [line for line in lines if "/pip install" in line]
    command = installs.partition(" |")[0].split()
    assert command == ["/srv/jde/bin/pip", "install", "-c", "constraints.txt", "'.[hub,onnx]'"]
