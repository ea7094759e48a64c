"""A service that does nothing, to measure the cost of listener and clients in `jde bench serve`."""

from __future__ import annotations

from typing import Any


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
    """A replica that listens as an ingress does.

    Args:
        address: `HOST:PORT` to listen on.
    """

    async def __init__(self, address: str) -> None:  # type: ignore[misc]  # Ray awaits it
        # imported here, since importing `jde bench` must stay cheap
        from jde_ray.pipelines.serving.api.server import Listener
        from jde_ray.pipelines.serving.config import Limits

        self._listener = Listener(answer_nothing, address, Limits().max_body_bytes)
        await self._listener.open()

    async def __del__(self) -> None:
        await self._listener.close(5.0)


def start(port: int) -> None:
    """Deploy the empty service beside the running one."""
    from ray import serve

    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}}
    deployment = serve.deployment(name="empty", **options)(Empty)
    serve.run(deployment.bind(f"127.0.0.1:{port}"), name="empty", route_prefix=None)


def stop() -> None:
    """Delete the empty service."""
    from ray import serve

    serve.delete("empty")
