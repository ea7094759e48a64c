"""The page at /docs: the OpenAPI description as plain HTML, which loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{font:600 1.05rem ui-monospace,monospace;margin:2rem 0 .3rem;border-top:1px solid #8886;
padding-top:1rem}table{border-collapse:collapse;margin:.4rem 0}td{padding:.1rem .9rem .1rem 0;
vertical-align:top}code{font-family:ui-monospace,monospace}:root{color-scheme:light dark}
"""


def render(description: dict[str, Any]) -> str:
    """HTML of an OpenAPI description.

    Args:
        description: The content of `/openapi.json`.
    """
    info = description["info"]
    title = escape(f"{info['title']} {info['version']}")
    calls = "".join(_calls(description))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(info.get('description', ''))} The same for programs: "
        "<code>/openapi.json</code>. Where a token is asked for, it comes as "
        "<code>Authorization: Bearer TOKEN</code>.</p>"
        f"{calls}<h2>WS /v1/streams/{{stream}}/ws</h2><p>A stream over one WebSocket: images as "
        "binary messages, answers as text, in order.</p></body></html>"
    )


def _calls(description: dict[str, Any]) -> Iterator[str]:
    schemas = description.get("components", {}).get("schemas", {})
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            rows = [
                (f"{item['name']} ({item['in']})", _kind(item), item.get("description", ""))
                for item in call.get("parameters", ())
            ]
            bodies = call.get("requestBody", {}).get("content", {})
            rows += [("body", kind, "") for kind in bodies]
            for status, answer in call.get("responses", {}).items():
                content = answer.get("content", {}).get("application/json", {})
                name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                fields = ", ".join(schemas.get(name, {}).get("properties", ()))
                rows.append((status, answer.get("description", ""), fields))
            text = escape(call.get("description", call.get("summary", "")))
            yield f"<h2>{method.upper()} {escape(path)}</h2><p>{text}</p><table>"
            for row in rows:
                cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in row)
                yield f"<tr>{cells}</tr>"
            yield "</table>"


def _kind(item: dict[str, Any]) -> str:
    schema = item.get("schema", {})
    kinds = [schema.get("type")] + [part.get("type") for part in schema.get("anyOf", ())]
    return " or ".join(kind for kind in kinds if kind)
