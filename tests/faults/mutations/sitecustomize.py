"""Breaks one promise in every process of a campaign's run: `JDE_MUTATION` says which.

Python imports a module of this name at its start from wherever PYTHONPATH leads; only the test of
the campaign's oracle puts this folder there.
"""

from __future__ import annotations

import os


def _break(name: str) -> None:
    if name == "create-only":
        from jde_ray.pipelines.storage.local import LocalStore

        def put_if_absent(self: LocalStore, key: str, body: object) -> bool:
            self.put(key, body)  # type: ignore[arg-type]
            return True

        LocalStore.put_if_absent = put_if_absent  # type: ignore[method-assign]
    elif name == "retry":
        from jde_ray.pipelines.tracking import attempts

        attempts.Attempts._has_ended = lambda self, video: True  # type: ignore[method-assign]


if os.environ.get("JDE_MUTATION"):
    _break(os.environ["JDE_MUTATION"])
