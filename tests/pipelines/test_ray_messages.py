from __future__ import annotations

import logging

import pytest

from jde_ray.pipelines import ray_messages


def test_what_ray_says_of_dead_workers_is_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It came as pages on standard output, among the events of `--progress json`."""
    from ray._private import worker

    said = "Raylet is terminated.  Termination is\x1b[2J unexpected. Last 20 lines:\n one\n two\n"
    before = worker.print_to_stdstream
    with caplog.at_level(logging.INFO, "jde_ray"), ray_messages.logged():
        worker.print_to_stdstream(
            {"lines": [said, "short."], "pid": "raylet", "is_err": False}, ignore_prefix=False
        )
    assert worker.print_to_stdstream is before
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "Ray: Raylet is terminated"),
        ("INFO", "Ray: Termination is\\x1b[2J unexpected. Last 20 lines: one two"),
        ("WARNING", "Ray: short"),
    ]
    assert capsys.readouterr() == ("", "")
