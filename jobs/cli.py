"""The `jde` command: finds the verb and runs it. A verb is imported only when it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the checkout, resolving the links of jde_ray/

COMPLETION = "_JDE_COMPLETE"  # a variable by which the shell asks for words
COMPLETION_FLAGS = ("--install-completion", "--show-completion")

# verb -> module, name in it, one line of help
VERBS: dict[str, tuple[str, str, str]] = {
    "track": (
        "jde_ray.jobs.track",
        "track",
        "Track people in videos, folders and lists of videos.",
    ),
    "serve": (
        "jde_ray.jobs.serve",
        "serve",
        "Track people in live streams over HTTP, WebSocket or a web page.",
    ),
    "eval": (
        "jde_ray.jobs.evaluate",
        "evaluate",
        "Score the tracks of a run against ground truth.",
    ),
    "refine": (
        "jde_ray.jobs.refine",
        "refine",
        "Join, filter, fill and smooth the tracks of a finished run.",
    ),
    "count": (
        "jde_ray.jobs.count",
        "count",
        "Count people who cross lines and visit zones, in finished tracks.",
    ),
    "convert": (
        "jde_ray.jobs.convert",
        "convert",
        "Write tracks as files of other tools: CVAT, COCO, YOLO, MOTChallenge, ...",
    ),
    "data": (
        "jde_ray.jobs.data",
        "app",
        "Convert public data sets into lists to train on; check the sources of a recipe.",
    ),
    "tune": ("jde_ray.jobs.tune", "tune", "Find the best tracker settings on saved detections."),
    "demo": (
        "jde_ray.jobs.demo",
        "demo",
        "Render three street scenes, track the people and score the tracks.",
    ),
    "train": ("jde_ray.jobs.train", "train", "Train a network."),
    "export": (
        "jde_ray.jobs.export",
        "export",
        "Write a network's weights as safetensors, ONNX or a torch file.",
    ),
    "models": (
        "jde_ray.jobs.models",
        "models",
        "List the networks that ship: size, speed, licence, scores.",
    ),
    "bench": ("jde_ray.jobs.bench.app", "app", "Measure speed and memory on this machine."),
    "doctor": (
        "jde_ray.jobs.doctor",
        "doctor",
        "Check versions, devices, weights and their licence.",
    ),
}


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    if COMPLETION in os.environ or (arguments and arguments[0].startswith(COMPLETION_FLAGS)):
        from jde_ray.jobs.console.completion import complete

        return complete(VERBS, arguments)
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    verb = arguments[0]
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb in ("-V", "--version"):
        print(version())
        return 0
    if verb not in VERBS:
        print(f"jde: error: {_no_verb(verb, arguments)}", file=sys.stderr)
        return 2
    from jde_ray.jobs.console.runner import run_verb

    module, name, _ = VERBS[verb]
    return run_verb(getattr(import_module(module), name), verb, arguments[1:])


def _no_verb(word: str, arguments: Sequence[str]) -> str:
    """What a first word that is no verb was probably meant to be."""
    from difflib import get_close_matches

    from jde_ray.jobs.console import other_tools

    accepted = ", ".join(VERBS)
    text = f"got {word!r}, expected {accepted}, --help"
    if word.lower() in other_tools.VERBS:
        return f"{text}; did you mean {other_tools.VERBS[word.lower()]}?"
    if nearest := get_close_matches(word.lower().lstrip("-"), [*VERBS, "help", "version"], 1):
        verb = nearest[0]
        return f"{text}; did you mean {verb if verb in VERBS else f'--{verb}'}?"
    if "/" in word or word.startswith("@") or Path(word).exists():
        return f"{text}; did you mean jde track {' '.join(arguments)}?"
    return text


def version() -> str:
    """Name, version and commit, of which a wheel has a note."""
    from jde_ray.pipelines.config import VERSION

    commit = _described() if (ROOT / ".git").exists() else _noted()
    return f"jde-ray {VERSION}" + (f" ({commit})" if commit else "")


def _described() -> str:
    """Commit of the checkout; empty without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def _noted() -> str:
    """Commit that the wheel was built from, written by setup.py; empty if it did not know."""
    try:
        return (ROOT / "commit.txt").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def usage() -> str:
    """Text of `jde --help`."""
    verbs = "\n".join(f"  {verb:<8} {text}" for verb, (_, _, text) in VERBS.items())
    return f"""Usage: jde VERB [OPTIONS]

People tracked in video archives, on Ray.

{verbs}

jde VERB --help shows the options. Example: jde track videos/ --out runs/first --save-video
An option is a variable, too, such as JDE_TRACK_CONF=0.4; jde track --print-config shows the outcome
jde --install-completion: the Tab key completes verbs and options in this shell
jde --version: version and commit"""


if __name__ == "__main__":
    main()
