"""Warnings on standard error, and the log file."""

from __future__ import annotations

import logging
import re

import pytest
from rich.console import Console

from jde_ray.jobs.console import progress as progress_module
from jde_ray.jobs.console.messages import ConsoleConfig, Messages
from jde_ray.jobs.console.progress import Display
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.tally import Progress

LOGGER = logging.getLogger("jde_ray.pipelines.somewhere")


def test_warnings_are_plain_lines_and_quiet_leaves_errors(capsys):
    for quiet, lines in ((False, ["passed over: 70 pictures", "broken"]), (True, ["broken"])):
        with Messages(ConsoleConfig(quiet=quiet)):
            LOGGER.info("of no interest")
            LOGGER.warning("passed over: %d pictures", 70)
            LOGGER.error("broken")
        out, err = capsys.readouterr()
        assert (out, err.splitlines()) == ("", lines)
    assert not logging.getLogger("jde_ray").handlers  # of another program's loop nothing is kept


def test_a_log_file_has_steps_progress_messages_and_the_error_with_their_time(
    tmp_path, capsys, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    config = ConsoleConfig(progress="none", quiet=True, log_file=str(tmp_path / "run.log"))

    def run() -> None:
        nonlocal now
        with Messages(config) as messages:
            with Display(Console(), config, messages) as display:
                display.doing("looking for videos in in/")
                display.started("o", 2)
                for second in range(0, 130, 10):
                    now += 10
                    display(Progress(2, 0, 0, second, float(second)))
                LOGGER.info("a continues at frame 3000")
            raise RunError("out: cannot be\nwritten", ExitCode.INTERNAL)

    for _ in range(2):  # it is appended to
        with pytest.raises(RunError):
            run()
    assert capsys.readouterr() == ("", "")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|ERROR) ", o) for o in lines)
    texts = [line.split(" ", 3)[3] for line in lines[: len(lines) // 2]]
    assert texts[:2] == ["looking for videos in in/", "videos: 2, results: o"]
    assert [text.split(",")[1] for text in texts[2:-2]] == [
        " 0 frames",
        " 60 frames",
        " 120 frames",
    ]
    assert texts[-2:] == ["a continues at frame 3000", "out: cannot be written"]
    assert " ERROR " in lines[-1]


def test_a_log_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"log-file: .* cannot be written \(Is a directory\)") as no:
        Messages(ConsoleConfig(log_file=str(tmp_path)))
    assert no.value.exit_code == ExitCode.REFUSED


def test_a_log_file_with_a_nul_in_its_name_is_refused():
    """The name may come from a YAML file."""
    with pytest.raises(RunError, match=r"log-file: a\\x00 cannot be written \(embedded null"):
        Messages(ConsoleConfig(log_file="a\0"))
