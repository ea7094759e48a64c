"""How weights are refused; apart from their readers, which import torch, and that takes seconds."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A weight file is refused; one line with the file, the first wrong key, what is expected."""


def one_line(error: Exception) -> str:
    """The error's text without its line breaks."""
    return " ".join(str(error).split())
