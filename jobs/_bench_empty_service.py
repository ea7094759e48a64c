"""A service that does nothing, for `jde bench serve`: what Ray Serve itself carries."""

from __future__ import annotations

from typing import Any

PATH = "/empty"


async def answer_nothing(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application that reads each body and answers `{}`."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


class Empty:
    """Ingress around `answer_nothing`."""

    def __serve_build_asgi_app__(self) -> Any:
        return answer_nothing


def start() -> None:
    """Deploy it below `PATH`, beside the service that runs already."""
    from ray import serve

    deployment = serve.deployment(
        name="empty", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000
    )(serve.ingress()(Empty))
    serve.run(deployment.bind(), name="empty", route_prefix=PATH)


def stop() -> None:
    """Take it away again."""
    from ray import serve

    serve.delete("empty")
