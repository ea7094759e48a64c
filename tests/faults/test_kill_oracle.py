"""The campaign's oracle on outputs that were damaged by hand, without Ray or kills."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from campaign import Campaign  # type: ignore[import-not-found]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


SPOILT: dict[str, Callable[[Path], object]] = {
    "": lambda out: None,
    "v0-.*missing": lambda out: next(out.glob("tracks/v0-*")).unlink(),
    "v1-.*other bytes": lambda out: _cut(next(out.glob("detections/v1-*"))),
    "x.txt: other bytes": lambda out: (out / "mot/x.txt").write_text("of nobody"),
    ".tmp-0 is left": lambda out: (out / "mot/.tmp-0").touch(),
    "error v2": lambda out: (
        (out / "errors").mkdir(),
        (out / "errors/v2-0.json").touch(),
    ),
    "'detections': 7": lambda out: (out / "summary.json").write_text(
        re.sub('"detections": [0-9]+', '"detections": 7', (out / "summary.json").read_text())
    ),
}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    patch = pytest.MonkeyPatch()
    for name, value in (("NUM_VIDEOS", 3), ("NUM_FRAMES", 16), ("FRAME_S", 0.0)):
        patch.setattr(f"campaign.{name}", value)
    yield Campaign(tmp_path_factory.mktemp("campaign"), 0)
    patch.undo()


@pytest.mark.parametrize("wrong", SPOILT)
def test_what_is_spoilt_is_found(campaign: Campaign, tmp_path: Path, wrong: str) -> None:
    out, campaign.found.wrong = tmp_path / "out", []
    shutil.copytree(campaign.plain, out)
    SPOILT[wrong](out)
    campaign._look("story", out, tmp_path)
    found = "\n".join(campaign.found.wrong)
    assert re.search(wrong, found) if wrong else found == "", found
