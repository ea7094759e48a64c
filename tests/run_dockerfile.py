"""Runs the steps of the Dockerfile below an empty folder, where no image can be built.

    python tests/run_dockerfile.py FOLDER [NAME=VALUE ...]

It takes the steps from the Dockerfile itself. Folders in ENV and WORKDIR come below FOLDER. What
changes the system (packages of Debian, users) is left out and named. In the end it runs `jde demo`
with the environment of the image, without a network, on what the last stage has.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile import Step, context, read_stages
from places import ROOT

_OF_THE_SYSTEM = ("apt-get ", "useradd ")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


@dataclass
class Replay:
    """State of a build: where its folders are, and its environment.

    Attributes:
        root: The folder that stands for `/`.
        arguments: Values of ARG.
        env: Environment of the steps.
        folder: The working directory.
        left_out: RUN steps that would change the system.
    """

    root: Path
    arguments: Mapping[str, str]
    env: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()
    left_out: list[str] = field(default_factory=list)

    def stage(self, steps: Sequence[Step], kept: Path) -> None:
        """Run the steps of one stage, which starts with nothing but the system.

        Args:
            steps: The steps.
            kept: The folders of earlier stages, from which COPY --from takes.
        """
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.root / "home")}
        self.env |= {"CC": "false", "CXX": "false"}  # the images have no compiler
        self.env |= {n: v for n, v in os.environ.items() if n.startswith(("PIP_", "SSL_"))}
        for step in steps:
            self._run(step, kept)

    def _run(self, step: Step, kept: Path) -> None:
        match step.name:
            case "ARG":
                name, _, default = step.words[0].partition("=")
                self.env[name] = self.arguments.get(name, default)
            case "ENV":
                known = dict(self.env)  # a line sees the values of the lines before it
                for word in step.words:
                    name, _, value = word.partition("=")
                    value = _expand(value, known)
                    self.env[name] = self._below(value) if name != "PATH" else value
            case "WORKDIR":
                self.folder = Path(self._below(_expand(step.text, self.env)))
                self.folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(step.words, kept)
            case "RUN" if step.text.startswith(_OF_THE_SYSTEM):
                self.left_out.append(step.text)
            case "RUN":
                print(f"+ {step.text}", flush=True)
                command = ["/bin/sh", "-ec", step.text]
                subprocess.run(command, cwd=self.folder, env=self.env, check=True)

    def _copy(self, words: Sequence[str], kept: Path) -> None:
        *sources, target = (_expand(word, self.env) for word in words)
        if sources[0].startswith("--from="):
            moved = Path(sources[1]).relative_to(self.root)
            (self.root / moved).parent.mkdir(parents=True, exist_ok=True)
            (kept / moved).rename(target)
            return
        for name in context() if sources == ["."] else sources:
            source, copy = ROOT / name, self.folder / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, copy, symlinks=True, ignore=ignored)
            else:
                shutil.copyfile(source, copy)

    def _below(self, value: str) -> str:
        is_folder = value.startswith("/") and not value.startswith(str(self.root))
        return f"{self.root}{value}" if is_folder else value


def _expand(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: values.get(m[1] or m[2], ""), text)


def replay(root: Path, arguments: Mapping[str, str], target: str = "cpu") -> Replay:
    """Run the steps of the stage `build`, then those of the target and of what it starts from."""
    root.mkdir(parents=True)
    stages = read_stages()
    run = Replay(root, arguments)
    (root / "home").mkdir()
    run.stage(stages["build"].steps, root)
    kept = root.parent / f"{root.name}.build"
    root.rename(kept)  # the image does not have it
    (root / "home").mkdir(parents=True)
    run.stage([*stages["jde"].steps, *stages[target].steps], kept)
    shutil.rmtree(kept)
    return run


def without_network(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> int:
    """Run a command where only 127.0.0.1 exists, and return its exit code."""
    inner = [sys.executable, __file__, "--alone", *command]
    isolated = ["unshare", "--map-root-user", "--net", *inner]
    return subprocess.run(isolated, cwd=folder, env=dict(env), check=False).returncode


def _alone(command: Sequence[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1).close()
    except OSError as error:
        if error.errno != errno.ENETUNREACH:  # refused is an answer, too
            sys.exit(f"there is a network: {error}")
        print(f"no network: {error}", flush=True)
    else:
        sys.exit("there is a network")
    os.execvp(command[0], command)  # noqa: S606


def main(arguments: Sequence[str]) -> int:
    """Run the steps, then the demo; the exit code is the demo's."""
    root, *values = arguments
    run = replay(Path(root).resolve(), dict(value.split("=", 1) for value in values))
    for step in run.left_out:
        print(f"left out, it changes the system: {step}", flush=True)
    env = run.env | {"PATH": f"{run.env['VIRTUAL_ENV']}/bin:/usr/bin:/bin"}
    subprocess.run(["jde", "--version"], env=env, check=True)  # noqa: S607
    return without_network(["jde", "demo", "--out", "demo"], run.folder, env)


if __name__ == "__main__":
    if sys.argv[1] == "--alone":
        _alone(sys.argv[2:])
    sys.exit(main(sys.argv[1:]))
