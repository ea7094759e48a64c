"""Builds the site: `python -m docs.site`, or `make docs`, which checks the commands in it first.

Ends with 1 if Sphinx warns of anything, if a link leads nowhere, or if a page would load something
from the network.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from docs.site import links, pages, reference


def build(folder: Path) -> int:
    """Build the site.

    Args:
        folder: Receives `html`, the site, and `pages`, what it is made from.

    Returns:
        Exit code.
    """
    generated = {"commands.md": reference.commands(), "settings.md": reference.settings()}
    try:
        pages.gather(folder / "pages", generated)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(folder / "html", ignore_errors=True)
    settings = ["-c", str(Path(__file__).parent), "-d", str(folder / "doctrees")]
    strict = ["--fail-on-warning", "--quiet", "--fresh-env"]
    if code := sphinx([*strict, *settings, str(folder / "pages"), str(folder / "html")]):
        return int(code)
    wrong = links.broken(folder / "html")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"open {folder / 'html/index.html'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/site")))
