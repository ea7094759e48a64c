"""Links of the built pages that lead nowhere, and whatever a page would load from the network."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}


class _Page(HTMLParser):
    """Anchors and links of a page, and the addresses that a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag in _LOADS and _LOADS[tag] in values:
            self.loads.add(values[_LOADS[tag]])


def broken(site: Path) -> list[str]:
    """One line for each broken link of the built site, and each address that is not in it.

    Args:
        site: Folder of the built pages.
    """
    found = [path for path in site.rglob("*.html") if "_static" not in path.parts]  # of the theme
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in found}
    wrong = []
    for path, page in sorted(pages.items()):
        name = path.relative_to(site.resolve())
        for address in sorted(page.links | page.loads):
            parts = urlsplit(address)
            if parts.netloc or parts.scheme:
                if address in page.loads and parts.scheme != "data":
                    wrong.append(f"{name}: loads {address} from the network")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{name}: {address}: no such file")
            elif target in pages and unquote(parts.fragment) not in {"", *pages[target].anchors}:
                wrong.append(f"{name}: {address}: no such heading")
    return wrong
