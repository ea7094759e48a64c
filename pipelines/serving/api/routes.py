"""FastAPI routes around a `Service`, and their OpenAPI description."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, WebSocket
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError
from starlette.routing import compile_path

from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.serving.api import description
from jde_ray.pipelines.serving.api.bodies import (
    DetectAnswer,
    EndAnswer,
    FrameAnswer,
    OpenStream,
    RefusalAnswer,
    StateAnswer,
    StreamAnswer,
    detect_answer,
    frame_answer,
    to_json,
)
from jde_ray.pipelines.serving.api.errors import handle_errors, invalid
from jde_ray.pipelines.serving.api.guard import App, Guard
from jde_ray.pipelines.serving.api.websocket import MAX_TIME_S, serve_socket
from jde_ray.pipelines.serving.calls import Service
from jde_ray.pipelines.serving.images import check_content_type
from jde_ray.pipelines.serving.request_log import RequestLog
from jde_ray.pipelines.serving.streams.operations import track_frame

_MAX_JSON_BYTES = 4096
_IMAGE = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp")
        },
    }
}
_OPEN = {
    "requestBody": {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenStream"}}}
    }
}
# name of the calls of each path, in metrics and in the request log
_CALLS = {
    "/v1/detect": "detect",
    "/v1/streams": "open",
    "/v1/streams/{stream}": "stream",
    "/v1/streams/{stream}/frames/{seq}": "frame",
    "/v1/streams/{stream}/ws": "socket",
    **dict.fromkeys(
        ("/", "/docs", "/healthz", "/readyz", "/metrics", "/openapi.json"), "operations"
    ),
}
# the page is one file, which loads nothing from elsewhere
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

StreamId = Annotated[str, Path(description="of POST /v1/streams", max_length=64)]
Seq = Annotated[int, Path(ge=0, le=2**53, description="0, 1, 2, ... without gaps")]
TimeS = Annotated[
    float | None,
    Query(
        ge=-MAX_TIME_S,
        le=MAX_TIME_S,
        allow_inf_nan=False,
        description="when the frame was taken, in seconds; unless given, 1 / frames_per_second "
        "after the last",
    ),
]


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    every = (400, 401, 403, 405, 413, 422, 429, 500, 503)
    return {status: {"model": RefusalAnswer} for status in sorted({*every, *statuses})}


def build_api(service: Service, log: RequestLog | None = None) -> App:
    """The whole ASGI application: the guard, and the routes behind it.

    Args:
        service: Answers the calls.
        log: Receives a line per call; None: no log.
    """
    api = FastAPI(
        title="jde",
        version=VERSION,
        description="People tracked in live streams. Boxes are x1, y1, x2, y2 in image pixels.",
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # a redirect is not in the description
    )
    handle_errors(api, service.metrics)
    api.include_router(_operations(service))
    api.include_router(_calls(service))
    _describe(api)
    return Guard(
        api,
        service.tokens,
        service.limits,
        service.metrics,
        service.queue,
        [(compile_path(path)[0], name) for path, name in _CALLS.items()],
        log or RequestLog(),
        insecure=service.config.insecure,
    )


def _operations(service: Service) -> APIRouter:
    router = APIRouter(tags=["operations"])
    model = service.config.model

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        """The page to try the service with."""
        content = files("jde_ray.pipelines.serving.api").joinpath("page.html").read_bytes()
        headers = {"content-security-policy": PAGE_POLICY}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs(request: Request) -> Response:
        """Description of the calls, as a page."""
        headers = {"content-security-policy": description.POLICY}
        return HTMLResponse(description.render(request.app.openapi()), headers=headers)

    @router.get("/healthz", response_model=StateAnswer, responses=_refusals())
    async def healthz() -> Response:
        """Whether the process answers."""
        return _json({"status": "ok", "model": model})

    @router.get("/readyz", response_model=StateAnswer, responses=_refusals())
    async def readyz() -> Response:
        """Whether the weights are loaded and warmed up, so that frames are answered."""
        await service.check_ready()
        return _json({"status": "ready", "model": model})

    @router.get("/metrics", response_class=Response, responses=_refusals() | {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    })  # fmt: skip
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        text = await service.render_metrics()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _calls(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["tracking"])
    model = service.config.model

    @router.post(
        "/detect",
        response_model=DetectAnswer,
        responses=_refusals(408, 415),
        openapi_extra=_IMAGE,
    )
    async def detect(
        request: Request,
        embeddings: Annotated[bool, Query(description="appearance vectors too")] = False,
    ) -> Response:
        """People in one image. Nothing is kept."""
        owner = _check_headers(request)
        service.check_admission(owner)
        body = await service.read_body(owner, request.stream())
        frame, found = await service.detect(owner, body)
        return _json(detect_answer(model, frame, found, embeddings=embeddings))

    @router.post(
        "/streams",
        status_code=201,
        response_model=StreamAnswer,
        responses=_refusals(408, 415),
        openapi_extra=_OPEN,
    )
    async def open_stream(request: Request) -> Response:
        """Open a stream: one tracker, whose frames are sent in order."""
        owner = request.state.owner
        wanted = _parse_open(await service.read_body(owner, request.stream(), _MAX_JSON_BYTES))
        stream = await service.open(owner, wanted.frames_per_second, wanted.camera)
        return _json({"stream": stream, "model": model, "expected": 0}, 201)

    @router.get(
        "/streams/{stream}", response_model=StreamAnswer, responses=_refusals(404, 409, 410)
    )
    async def look(request: Request, stream: StreamId) -> Response:
        """Number of the next frame of a stream."""
        expected = await service.expected(stream, request.state.owner)
        return _json({"stream": stream, "model": model, "expected": expected})

    @router.delete(
        "/streams/{stream}",
        status_code=204,
        responses=_refusals(404, 409, 410) | {200: {"model": EndAnswer}},
    )
    async def end(request: Request, stream: StreamId) -> Response:
        """End a stream. A service with places answers with its last events."""
        events = await service.end(stream, request.state.owner)
        if service.config.places is not None:
            return _json({"stream": stream, "events": events})
        return Response(status_code=204)

    @router.post(
        "/streams/{stream}/frames/{seq}",
        response_model=FrameAnswer,
        responses=_refusals(404, 408, 409, 410, 415),
        openapi_extra=_IMAGE,
    )
    async def frame(request: Request, stream: StreamId, seq: Seq, time_s: TimeS = None) -> Response:
        """Tracks of the next frame. A number sent again gets its first answer."""
        owner = _check_headers(request)
        answer = await service.first_answer(stream, owner, seq)
        if answer is None:
            service.check_admission(owner)
            body = await service.read_body(owner, request.stream())
            seen = await service.detect(owner, body, call="frame")
            place, config = (stream, owner, seq), service.config.track
            answer = await service.associate(track_frame(place, time_s, seen, config))
        return _json(frame_answer(model, stream, answer))

    @router.websocket("/streams/{stream}/ws")
    async def socket(websocket: WebSocket, stream: str) -> None:
        await serve_socket(service, websocket, stream)

    return router


def _check_headers(request: Request) -> str:
    """Check the headers of an image; returns the owner."""
    check_content_type(request.headers.get("content-type"), request.headers.get("content-encoding"))
    owner: str = request.state.owner
    return owner


def _parse_open(body: bytes) -> OpenStream:
    try:
        return OpenStream.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise invalid(place, first, tuple(OpenStream.model_fields)) from error


def _json(values: dict[str, Any], status: int = 200) -> Response:
    return Response(to_json(values), status, media_type="application/json")


def _describe(api: FastAPI) -> None:
    """Add to the description the token, and the bodies that FastAPI does not read."""
    plain = api.openapi

    def describe() -> dict[str, Any]:
        described = plain()
        components = described.setdefault("components", {})
        components.setdefault("schemas", {})["OpenStream"] = json.loads(
            json.dumps(OpenStream.model_json_schema())
        )
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}, {}]
        return described

    api.openapi = describe  # type: ignore[method-assign]
