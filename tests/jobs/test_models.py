"""`jde models`: what ships, and what it says of files that are not those of their cards."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from jde_ray.jobs import cli
from jde_ray.models import cards


def test_what_ships_is_listed(capsys):
    assert cli.run(["models"]) == 0
    shown = capsys.readouterr().out
    card = next(one for one in cards.JOINT.cards() if one.name == "small")
    scores = [f"{value:.1f}" for value in card.scores.values()]
    for text in (card.name, "576x320", "6.12", *scores, card.licence, card.sha256[:12]):
        assert text in shown
    assert card.unseen in shown
    assert cli.run(["models", "--json"]) == 0
    plain = next(one for one in json.loads(capsys.readouterr().out) if one["name"] == "small")
    assert (plain["sha256"], plain["scores"]) == (card.sha256, dict(card.scores))
    assert plain["bytes"] == cards.JOINT.find(card.name).stat().st_size
    assert plain["int8_file"] == "small.int8.xml"
    assert plain["damaged"] == []


@pytest.mark.parametrize("width", [72, 80, 100])
def test_names_and_licences_stay_whole_on_narrow_terminals(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.run(["models"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for card in cards.JOINT.cards() + cards.REID.cards():
        (row,) = re.findall(rf"^ {card.name} .*", shown, re.MULTILINE)
        assert card.licence in row
        assert len(row) <= width
    assert "…" not in shown


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The shipped files in another folder."""
    folder = shutil.copytree(cards.JOINT.folder, tmp_path / "pretrained")
    monkeypatch.setattr(cards, "JOINT", replace(cards.JOINT, folder=folder))
    return folder


def test_a_damaged_file_is_told(copied, capsys):
    (copied / "small.int8.bin").write_bytes(b"cut")
    assert cli.run(["models"]) == 1
    said = capsys.readouterr()
    assert "small" in said.out
    assert said.err == (
        "jde: error: models: small.int8.bin: not the file of the card; install the package again\n"
    )


def test_weights_without_a_card_are_told(copied, capsys):
    (copied / "small.md").unlink()
    assert cli.run(["models"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "small.md has no head that can be read (No such file or directory)" in line
