"""Errors that end a verb, in one line and an exit code."""

from __future__ import annotations

import pytest

from jde_ray.jobs.console.runner import explain
from jde_ray.pipelines.errors import ExitCode


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError("list s3://b/run/summary: no permission (403 AccessDenied)"),
            "list s3://b/run/summary: no permission (403 AccessDenied)",
        ),
        (PermissionError(13, "Permission denied", "/out/tracks"), "/out/tracks: Permission denied"),
    ],
)
def test_a_place_that_is_locked_is_no_error_of_the_program(
    error: PermissionError, said: str
) -> None:
    text = f"{said}; run the same command once that is allowed"
    assert explain(error) == (text, ExitCode.INTERNAL)
