"""Gathers the pages of the site in one folder, from which Sphinx builds it.

The documents link to one another as they lie in the repository, so that they can be read on a code
host. Here each link gets the place that its target has on the site. Files that are no pages, such
as recipes, are copied beside them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import yaml

from docs.site.notebook import to_markdown

ROOT = Path(__file__).parents[2]
INDEX = "docs/index.md"
GENERATED = "generated/"
_NAVIGATION = Path(__file__).parent / "navigation.yaml"
_CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|/)([^)#\s]+)(#[^)\s]*)?(?=\))")


def sections() -> dict[str, list[str]]:
    """Pages by the headings of the menu, as paths in the repository; only those that exist."""
    found: dict[str, list[str]] = {}
    for section in yaml.safe_load(_NAVIGATION.read_text(encoding="utf-8")):
        ((title, patterns),) = section.items()
        found[title] = [page for pattern in patterns for page in _matching(pattern)]
    return {title: pages for title, pages in found.items() if pages}


def place_of(page: str) -> str:
    """Where a page lies among the site's sources.

    >>> place_of("docs/decisions/0001-small-network.md"), place_of("README.md")
    ('decisions/0001-small-network.md', 'project/README.md')
    """
    if page.startswith(GENERATED):
        return page.removeprefix(GENERATED)
    inside = page.removeprefix("docs/") if page.startswith("docs/") else f"project/{page}"
    return inside.removesuffix(".ipynb") + (".md" if page.endswith(".ipynb") else "")


def gather(folder: Path, generated: Mapping[str, str]) -> None:
    """Write the sources of the site.

    Args:
        folder: Receives them; it is emptied first.
        generated: Text of the pages below `generated/`, by name.

    Raises:
        ValueError: If a link leads nowhere; names the page and the link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    menu = sections()
    pages = [INDEX, *(page for listed in menu.values() for page in listed)]
    documents = {*_documents(), *pages}
    for page in sorted(documents):
        if page.startswith(GENERATED):
            text = generated[page.removeprefix(GENERATED)]
        elif page.endswith(".ipynb"):
            text = to_markdown(ROOT / page, folder / "notebook")
        else:
            text = (ROOT / page).read_text(encoding="utf-8")
        text = _with_links(text, page, documents, folder)
        if page == INDEX:
            text += "".join(_menu(title, listed) for title, listed in menu.items())
        _write(folder / place_of(page), text)


def _matching(pattern: str) -> list[str]:
    if pattern.startswith(GENERATED):
        return [pattern]
    found = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
    return sorted(found, key=lambda page: not page.endswith("README.md"))  # a README comes first


def _documents() -> Iterable[str]:
    """All documents below `docs/`: Sphinx warns of one that the menu lacks."""
    return (path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))


def _menu(title: str, pages: Iterable[str]) -> str:
    lines = "\n".join(place_of(page).removesuffix(".md") for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{lines}\n```\n"


def _with_links(text: str, page: str, documents: set[str], folder: Path) -> str:
    """The text with each link leading to the place of its target on the site."""
    here = PurePosixPath(place_of(page)).parent

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(Path(page).parent / match[1])
        if page.startswith(GENERATED) and target not in documents:  # they speak of the documents too
            target = os.path.normpath(Path("docs") / match[1])
        place = _target(target, documents, folder)
        if place is None:
            raise ValueError(f"{page}: dead link {match[0]}, expected a file of the repository")
        return os.path.relpath(place, here) + (match[2] or "")

    parts = _CODE.split(text)
    return "".join(p if _CODE.fullmatch(p) else _LINK.sub(moved, p) for p in parts)


def _target(target: str, documents: set[str], folder: Path) -> str | None:
    """Place of a link's target, which is copied if it is no page; None if there is none."""
    readme = f"{target}/README.md"
    if target in documents or readme in documents:
        return place_of(target if target in documents else readme)
    source = ROOT / target
    if target.startswith("..") or not source.exists():
        return None
    if source.is_dir():
        files = sorted(path.relative_to(ROOT).as_posix() for path in source.glob("*") if path.is_file())
        lines = [f"* [{Path(file).name}](/{_target(file, documents, folder)})" for file in files]
        text = "\n".join(["---", "orphan: true", "---", f"# Files in {target}", "", *lines, ""])
        _write(folder / f"files/{target}.md", text)
        return f"files/{target}.md"
    place = target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / place)
    return place


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
