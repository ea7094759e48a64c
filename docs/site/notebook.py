"""A notebook as a page: its texts, its code, and the results that are stored in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PICTURES = {"image/png": "png", "image/jpeg": "jpg"}


def to_markdown(notebook: Path, folder: Path) -> str:
    """The notebook as Markdown.

    Args:
        notebook: File of the notebook, in format 4.
        folder: Receives its pictures; it lies beside the page and has the name `notebook`.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for place, output in enumerate(cell["outputs"]):
            parts += _shown(output, folder, f"{number:02}-{place}")
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any], folder: Path, name: str) -> Iterator[str]:
    """An output as Markdown: a picture if it has one, else its text."""
    data = output.get("data", {})
    for kind, suffix in _PICTURES.items():
        if kind in data:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{name}.{suffix}"
            file.write_bytes(base64.b64decode("".join(data[kind])))
            yield f"![result of the cell above](/notebook/{file.name})"
            return
    text = "".join(output.get("text") or data.get("text/plain", ""))
    if text.strip():
        yield f"```text\n{text.rstrip()}\n```"
