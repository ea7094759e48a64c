"""Interprets Ray's errors: whether another attempt may help, and one line for the user."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    AuthenticationError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    UserCodeException,
)

from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.stall_verdict import StalledError


def answer_of(call: Any) -> Any:
    """The answer of a finished call; the error if its shard is lost or does not answer."""
    try:
        return ray.get(call, timeout=0)
    except (RayError, GetTimeoutError) as error:
        return error


def last_line(error: Exception) -> str:
    """The last line of an error; Ray puts the worker's trace before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def may_succeed_again(error: BaseException | None) -> bool:
    """Whether another attempt may succeed after this error: not if our own code raised."""
    if isinstance(error, RayTaskError):
        return may_succeed_again(error.cause)
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    never = (UserCodeException, RuntimeEnvSetupError, AuthenticationError)
    # some assertions of Ray Data do not hold while its workers die
    passing = (StalledError, RayError, AssertionError, TimeoutError)
    return isinstance(error, passing) and not isinstance(error, never)


def to_run_error(error: Exception) -> RunError:
    """The error that ends the run after the dataflow has failed permanently."""
    return RunError(f"the dataflow failed: {last_line(error)}", ExitCode.INTERNAL)
