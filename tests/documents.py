"""Code blocks, command lines, links, paths and names in the documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^ *```(.*?)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
_OURS = "deploy|docs|jde_ray|jobs|models|pipelines|tests"
_PATH = re.compile(rf"(?<![\w./<-])(?:{_OURS})/[\w./-]*\w/?")
_NAME = re.compile(rf"(?<![\w./-])(?:{_OURS})(?:\.[A-Za-z_]\w*)+")
_FILE_SUFFIXES = (".py", ".md", ".yaml", ".html", ".css", ".jpg", ".txt", ".npz", ".toml")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: Document and line.
        kind: Language of the fence, empty for command lines.
        text: Content.
    """

    place: str
    kind: str
    text: str

    @property
    def needs(self) -> str | None:
        """What the block needs beyond this machine, from its comment `# needs ...`."""
        found = re.search(r"^# needs (.*)$", self.text, re.MULTILINE)
        return found[1] if found else None


def documents() -> list[Path]:
    """Every document for readers, except the changelog."""
    places = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")]
    return sorted(path for path in places if path.name != "CHANGELOG.md")


def blocks() -> list[Block]:
    """All blocks, in the order of documents and lines."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            place = f"{path.relative_to(ROOT)}:{line}"
            found.append(Block(place, match[1].strip(), match[2]))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Command lines as words, without comments and variables, split at `&&` and `|`."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in ("&&", "||", "|", ";", "&"):
                while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
                    del words[0]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def inline_commands() -> Iterator[tuple[str, list[str]]]:
    """Place and words of every `jde VERB ...` in running text; words may be only examples."""
    for path in documents():
        if path.parent.name == "decisions":  # these also discuss flags that were not built
            continue
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(
            _FENCE.sub(lambda m: "\n" * m[0].count("\n"), text).splitlines(), 1
        ):
            for span in re.findall(r"`(jde [a-z][^`]*)`", line):
                yield f"{path.relative_to(ROOT)}:{number}", span.split()


def links() -> Iterator[tuple[str, Path, str]]:
    """Place, target and anchor (or an empty text) of every link inside the repository."""
    for place, path, line in _lines():
        for target, anchor in _LINK.findall(line):
            yield place, path.parent / target if target else path, anchor


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, spelled as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths() -> Iterator[tuple[str, Path]]:
    """Place and target of every path from the root of the repository, such as `jobs/cli.py`."""
    for place, _, line in _lines():
        for text in _PATH.findall(line):
            yield place, ROOT / text


def names() -> Iterator[tuple[str, str]]:
    """Place and text of every dotted name, such as `models.letterbox.fitted_size`."""
    for place, _, line in _lines():
        for text in _NAME.findall(line):
            if not text.endswith(_FILE_SUFFIXES):
                yield place, text


def _lines() -> Iterator[tuple[str, Path, str]]:
    for path in documents():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", path, line
