"""Gathers the pages of the site in one folder, from which Sphinx builds it.

The documents link to one another as they lie in the repository, so that they can be read on a code
host. Here each link gets the place that its target has on the site. Files that are no pages, such
as recipes, are copied beside them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from docs.site.notebook import to_markdown

ROOT = Path(__file__).parents[2]
INDEX = "docs/index.md"
GENERATED = "generated/"
_NAVIGATION = Path(__file__).parent / "navigation.yaml"
_CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|/)([^)#\s]+)(#[^)\s]*)?(?=\))")


def menu() -> dict[str, dict[str, str]]:
    """Entries by the headings of the menu; only those that exist.

    Returns:
        For each heading the titles of its entries, empty for the page's own, by their paths in the
        repository. An entry that ends with `/` is a folder, with one page that lists the others.
    """
    found: dict[str, dict[str, str]] = {}
    for section in yaml.safe_load(_NAVIGATION.read_text(encoding="utf-8")):
        ((heading, listed),) = section.items()
        titles: dict[str, str] = {}
        for entry in listed:
            titles |= entry if isinstance(entry, dict) else {entry: ""}
        found[heading] = {
            page: title
            for page, title in titles.items()
            if page.startswith(GENERATED) or (ROOT / page).exists()
        }
    return {heading: titles for heading, titles in found.items() if titles}


def place_of(page: str) -> str:
    """Where a page lies among the site's sources.

    >>> place_of("docs/decisions/0001-small-network.md"), place_of("README.md")
    ('decisions/0001-small-network.md', 'project/README.md')
    >>> place_of("docs/decisions/")
    'decisions/index.md'
    """
    if page.startswith(GENERATED):
        return page.removeprefix(GENERATED)
    inside = page.removeprefix("docs/") if page.startswith("docs/") else f"project/{page}"
    if inside.endswith("/"):
        return f"{inside}index.md"
    return inside.removesuffix(".ipynb") + ".md" if page.endswith(".ipynb") else inside


def gather(folder: Path, generated: Mapping[str, str]) -> None:
    """Write the sources of the site.

    Args:
        folder: Receives them; it is emptied first.
        generated: Text of the pages below `generated/`, by name.

    Raises:
        ValueError: If a link leads nowhere; names the page and the link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sections = menu()
    entries = [entry for listed in sections.values() for entry in listed]
    # all below `docs/`: Sphinx warns of a page that the menu lacks
    pages = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")} | {*entries}
    pages -= {f"{entry}README.md" for entry in entries if entry.endswith("/")}
    for page in sorted(pages):
        if page.endswith("/"):
            text = _listing(page, [one for one in sorted(pages) if _lies_in(one, page)])
        elif page.startswith(GENERATED):
            text = generated[page.removeprefix(GENERATED)]
        elif page.endswith(".ipynb"):
            text = to_markdown(ROOT / page, folder / "notebook")
        else:
            text = (ROOT / page).read_text(encoding="utf-8")
        text = _with_links(text, page, pages, folder)
        if page == INDEX:
            text += "".join(_menu(heading, titles) for heading, titles in sections.items())
        _write(folder / place_of(page), text)


def _lies_in(page: str, folder: str) -> bool:
    return page.startswith(folder) and page != folder and not page.endswith("/README.md")


def _listing(folder: str, pages: Sequence[str]) -> str:
    """Page of a folder: its README, or a list of its pages by their headings."""
    readme = ROOT / folder / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
    else:
        headings = ((ROOT / page).read_text(encoding="utf-8").partition("\n")[0] for page in pages)
        lines = [
            f"* [{heading.lstrip('# ')}]({Path(page).name})"
            for heading, page in zip(headings, pages, strict=True)
        ]
        text = "\n".join([f"# {Path(folder).name.capitalize()}", "", *lines, ""])
    return text + _menu("", dict.fromkeys(pages, ""))


def _menu(heading: str, titles: Mapping[str, str]) -> str:
    places = {"/" + place_of(page).removesuffix(".md"): title for page, title in titles.items()}
    lines = "\n".join(f"{title} <{p}>" if title else p for p, title in places.items())
    caption = f":caption: {heading}\n" if heading else ""
    return f"\n```{{toctree}}\n:hidden:\n{caption}\n{lines}\n```\n"


def _with_links(text: str, page: str, pages: set[str], folder: Path) -> str:
    """The text with each link leading to the place of its target on the site."""
    here = PurePosixPath(place_of(page)).parent
    base = PurePosixPath(page if page.endswith("/") else PurePosixPath(page).parent)

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(base / match[1])
        if page.startswith(GENERATED) and target not in pages:  # they speak of the documents too
            target = os.path.normpath(f"docs/{match[1]}")
        place = _target(target, pages, folder)
        if place is None:
            raise ValueError(f"{page}: dead link {match[0]}, expected a file of the repository")
        return os.path.relpath(place, here) + (match[2] or "")

    parts = _CODE.split(text)
    return "".join(p if _CODE.fullmatch(p) else _LINK.sub(moved, p) for p in parts)


def _target(target: str, pages: set[str], folder: Path) -> str | None:
    """Place of a link's target, which is copied if it is no page; None if there is none."""
    of_folder = target.removesuffix("README.md").removesuffix("/") + "/"
    for page in (of_folder, target):
        if page in pages:
            return place_of(page)
    source = ROOT / target
    if target.startswith("..") or not source.exists():
        return None
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file())
        links = [(one.name, _target(f"{target}/{one.name}", pages, folder)) for one in files]
        lines = [f"* [{name}](/{place})" for name, place in links]
        head = ["---", "orphan: true", "---", f"# Files in {target}", ""]
        _write(folder / f"files/{target}.md", "\n".join([*head, *lines, ""]))
        return f"files/{target}.md"
    place = target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / place)
    return place


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
