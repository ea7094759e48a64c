"""The Dockerfile read as its builder reads it, as far as this project writes one."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

_CONTINUED, _COMMENT = re.compile(r"\\\n"), re.compile(r"^\s*#.*\n", re.MULTILINE)
_KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "WORKDIR"}


@dataclass(frozen=True)
class Step:
    """One instruction: its name in capitals, and the text after it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The text as words, without quotes."""
        return shlex.split(self.text)


@dataclass(frozen=True)
class Stage:
    """The steps between two FROM.

    Attributes:
        name: Name after AS.
        base: Name of the image or stage that it starts from.
        steps: Its instructions without FROM.
    """

    name: str
    base: str
    steps: tuple[Step, ...]


def read_stages(path: Path = ROOT / "Dockerfile") -> dict[str, Stage]:
    """Stages by name, in order; what stands before the first FROM is left out.

    Raises:
        ValueError: If an instruction is none of those used here.
    """
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    lines = _CONTINUED.sub(" ", _COMMENT.sub("", path.read_text())).splitlines()
    for line in filter(str.strip, lines):
        name, _, text = line.partition(" ")
        if name not in _KNOWN:
            raise ValueError(f"{path.name}: {name}: not read here, expected {sorted(_KNOWN)}")
        if name == "FROM":
            base, _, stage = text.split()
            current = stages[stage] = Stage(stage, base, ())
        elif current is not None:
            steps = (*current.steps, Step(name, text.strip()))
            current = stages[current.name] = Stage(current.name, current.base, steps)
    return stages


def steps_of(target: str, stages: dict[str, Stage] | None = None) -> list[Step]:
    """All steps of a stage and of the stages that it starts from, in order."""
    stages = stages or read_stages()
    stage = stages[target]
    earlier = steps_of(stage.base, stages) if stage.base in stages else []
    return [*earlier, *stage.steps]


def context(path: Path = ROOT / ".dockerignore") -> list[str]:
    """Names at the top of the repository that are sent to a build: the file lists them with `!`.

    Raises:
        ValueError: If the file does not first leave out everything.
    """
    rules = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    if rules[0] != "*":
        raise ValueError(f"{path.name}: got {rules[0]!r} first, expected *")
    return [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
