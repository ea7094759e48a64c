"""Answers every error of a call with the JSON of a refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from jde_ray.pipelines.serving.api.guard import internal
from jde_ray.pipelines.serving.metrics import Metrics
from jde_ray.pipelines.serving.refusals import Cause, Refusal

_MAX_VALUE = 40  # letters of a refused value that are repeated


def handle_errors(api: FastAPI, metrics: Metrics) -> None:
    """Register the answers to all errors.

    Args:
        api: The application.
        metrics: Receives the counts of refusals.
    """

    def counted(request: Request, refusal: Refusal) -> Response:
        request.state.error = refusal.cause.error
        metrics.count("jde_refusals", refusal.cause.error)
        return Response(refusal.to_json(), refusal.cause.status, headers=refusal.headers())

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)  # noqa: S101 - registered for it alone
        return counted(request, error)

    async def not_valid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return counted(request, invalid(place, first))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code == 405:
            allowed = _methods(request) or (error.headers or {}).get("Allow", "")
            text = f"method: got {request.method}, expected {allowed}"
            response = counted(request, Refusal(Cause.METHOD_NOT_ALLOWED, text))
            response.headers["allow"] = allowed
            return response
        if error.status_code == 404:
            return counted(
                request, Refusal(Cause.NOT_FOUND, "there is no such call; GET /docs lists them")
            )
        return counted(request, Refusal(Cause.BAD_REQUEST, "the request cannot be read"))

    async def failed(request: Request, _error: Exception) -> Response:
        return counted(request, internal(request.state.request_id))  # the guard logs the error

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        Refusal: refused,
        RequestValidationError: not_valid,
        HTTPException: unknown,
        Exception: failed,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def invalid(place: str, error: Mapping[str, Any], known: tuple[str, ...] = ()) -> Refusal:
    """The refusal of a value, in one line: which, what it was, what is expected.

    Args:
        place: Name of the value.
        error: What pydantic says about it.
        known: Names that are accepted beside it.
    """
    text = str(error["msg"])
    if error["type"] == "json_invalid":
        return Refusal(Cause.INVALID, f"{place}: expected JSON ({text.removeprefix('Invalid ')})")
    if error["type"] == "extra_forbidden":
        return Refusal(
            Cause.INVALID, f"{_short(place)}: no such setting, expected {' | '.join(known)}"
        )
    expected = text.partition(", unable to ")[0].partition(" should ")[2]
    expected = expected.removeprefix("be ").removeprefix("have ")
    value = _short(repr(error["input"]))
    return Refusal(Cause.INVALID, f"{place}: got {value}, expected {expected or text}")


def _short(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."


def _methods(request: Request) -> str:
    """Methods of a path, since Starlette names those of one of its routes only."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    calls = [paths[path] for path in paths if compile_path(path)[0].match(request.scope["path"])]
    return ", ".join(sorted({method.upper() for call in calls for method in call}))
