"""The documentation site: its menu, its links, its reference, and what ends its build."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from places import ROOT

from docs.site import links, pages, reference
from docs.site.notebook import to_markdown
from jde_ray.jobs import cli
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.models.tracking.registry import CONFIGS
from jde_ray.pipelines.errors import PASSING, Reason

# Sphinx's extensions use what Sphinx deprecates
IN_SPHINX = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
GENERATED = {"commands.md": "# Commands\n", "settings.md": "# Settings\n"}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with its menu, in place of ours."""
    files = {
        "docs/index.md": "# Home\n\n[start](start.md), [why](decisions), `[no](link)`\n",
        "docs/start.md": "# Start\n\n[recipe](../jobs/one.yaml), [top](../README.md#top)\n",
        "docs/decisions/0001-a.md": "# 1. A\n\n[start](../start.md)\n",
        "README.md": "# Top\n\n![drawing](docs/drawing.svg)\n",
        "docs/drawing.svg": "<svg/>",
        "jobs/one.yaml": "a: 1",
    }
    for name, text in files.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    menu = tmp_path / "menu.yaml"
    menu.write_text(
        "- First: [docs/start.md, docs/later.md]\n- Later: [docs/absent.md]\n"
        "- More: [generated/commands.md, docs/decisions/, {README.md: The README}]\n"
    )
    monkeypatch.setattr(pages, "ROOT", tmp_path / "repository")
    monkeypatch.setattr(pages, "_NAVIGATION", menu)
    return tmp_path / "repository"


def test_links_lead_to_where_their_targets_lie_on_the_site(repository: Path, tmp_path: Path):
    site = tmp_path / "pages"
    pages.gather(site, GENERATED)
    index = (site / "index.md").read_text()
    assert "[start](start.md), [why](decisions/index.md), `[no](link)`" in index
    assert "[recipe](files/jobs/one.yaml), [top](project/README.md#top)" in (
        (site / "start.md").read_text()
    )
    assert (site / "files/jobs/one.yaml").read_text() == "a: 1"
    assert "![drawing](../drawing.svg)" in (site / "project/README.md").read_text()
    assert "* [1. A](0001-a.md)" in (site / "decisions/index.md").read_text()


def test_the_menu_passes_over_what_does_not_exist_yet(repository: Path, tmp_path: Path):
    pages.gather(tmp_path / "pages", GENERATED)
    index = (tmp_path / "pages/index.md").read_text()
    assert ":caption: First\n\n/start\n```" in index
    assert ":caption: More\n\n/commands\n/decisions/index\nThe README </project/README>\n" in index
    assert "later" not in index.lower()


def test_a_dead_link_ends_the_build(repository: Path, tmp_path: Path):
    (repository / "docs/start.md").write_text("# Start\n\n[gone](../jobs/two.yaml)\n")
    with pytest.raises(ValueError, match=r"docs/start\.md: dead link \.\./jobs/two\.yaml"):
        pages.gather(tmp_path / "pages", GENERATED)


def test_every_document_is_in_the_menu():
    entries = [entry for titles in pages.menu().values() for entry in titles]
    for path in sorted((ROOT / "docs").glob("**/*.md")):
        page = path.relative_to(ROOT).as_posix()
        folder = page.rpartition("/")[0] + "/"
        assert page == pages.INDEX or page in entries or folder in entries, page


def test_the_reference_has_every_verb_and_flag():
    text = reference.commands()
    for verb in cli.VERBS:
        assert f"\n## jde {verb}\n" in text
    track = text[text.index("## jde track") : text.index("## jde serve")]
    for name in FLAGS:
        assert f"`--{name.replace('_', '-')}" in track, name
    assert "| `--vid-stride <int>` | Process every n-th frame. | 1 |" in track
    assert "| `--seconds <float range>` | Length of each video. (0.2 to 600) | 10.0 |" in text
    assert "\\[" not in text


def test_the_reference_has_every_setting():
    text = reference.settings()
    for flag in FLAGS.values():
        assert f"| `{flag.field}`" in text, (flag.config, flag.field)
    for name, config in CONFIGS.items():
        part = text.partition(f"### tracking, association {name}\n")[2].partition("\n#")[0]
        names = {field.name for field in dataclasses.fields(config)} - {*reference._FILLED_IN}
        assert all(f"| `{field}`" in part for field in names), name
    assert "| `vid_stride`, `--vid-stride` |" in text
    assert "| `max_body_bytes` |" in text


def test_a_setting_without_a_description_ends_the_build():
    @dataclasses.dataclass(frozen=True)
    class Undescribed:
        """Settings."""

        silent: int = 1

    with pytest.raises(ValueError, match=r"Undescribed\.silent: no description"):
        reference._fields(Undescribed, {})


def test_every_reason_is_explained_and_says_whether_to_try_again():
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert explained == [str(reason) for reason in explained if reason in list(Reason)]
    assert set(explained) == {str(reason) for reason in Reason}
    for reason in Reason:
        again = "yes" if reason in PASSING else "no"
        assert f"| [`{reason}`](#{reason}) | {again} |" in text, reason


def test_broken_links_of_built_pages_are_named(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">x</a><a href="b.html#gone">x</a><a href="c.html">x</a>'
        '<a href="#own"></a><p id="own"></p><a href="https://example.org">x</a>'
        '<img src="data:image/png;base64,AA"><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1><link href="//example.org/f.css">')
    assert links.broken(tmp_path) == [
        "a.html: b.html#gone: no such heading",
        "a.html: c.html: no such file",
        "a.html: loads https://example.org/x.js from the network",
        "b.html: loads //example.org/f.css from the network",
    ]


def test_a_notebook_becomes_a_page(tmp_path: Path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["two\n"]},
        {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["print(2)"], "outputs": outputs},
    ]
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": cells}))
    assert to_markdown(tmp_path / "one.ipynb", tmp_path / "notebook") == (
        "# Title\ntext\n\n```python\nprint(2)\n```\n\n```text\ntwo\n```\n\n"
        "![result of the cell above](/notebook/01-1.png)\n"
    )
    assert (tmp_path / "notebook/01-1.png").read_bytes() == b"\0\0\0"


@IN_SPHINX
def test_the_site_is_built_without_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    pytest.importorskip("sphinx", reason="of the extra `docs`")
    from docs.site.__main__ import build

    assert build(tmp_path) == 0, capfd.readouterr().err
    index = (tmp_path / "html/index.html").read_text(encoding="utf-8")
    assert "commands.html" in index
    assert "first-steps.html" in index


@IN_SPHINX
def test_a_dead_anchor_ends_the_build(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    pytest.importorskip("sphinx", reason="of the extra `docs`")
    from docs.site.__main__ import build

    for name in ("commands", "settings"):
        monkeypatch.setattr(reference, name, lambda: "# Page\n")
    (repository / "docs/start.md").write_text("# Start\n\n[gone](decisions/0001-a.md#gone)\n")
    assert build(tmp_path / "built") == 1
    assert "'gone'" in capfd.readouterr().err
