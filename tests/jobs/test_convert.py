from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from planted_out import ROWS, write_tracks

from jde_ray.jobs.cli import run
from jde_ray.pipelines.conversion.kinds import KINDS
from jde_ray.pipelines.storage.local import LocalStore


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_tracks(tmp_path / "run")
    return tmp_path


def test_what_was_written_and_what_was_cut_off_are_said(out, capsys):
    write_tracks(out / "run", [*ROWS, (7, 9, -9.0, 1.0, 5.0, 9.0, 0.5)], "/videos/hall.mp4")
    assert run(["convert", str(out / "run"), "--to", "yolo", "--out", str(out / "yolo")]) == 0
    said = capsys.readouterr()
    assert said.out == f"2 videos, 7 tracks, 13 rows: {out / 'yolo'}\n"
    assert said.err.startswith("jde: cut off at the border of the picture")
    assert said.err.endswith(": 1 boxes\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--to", "voc"], "to: got 'voc', expected mot | coco | yolo"),
        (["--to", "cvat", "--scores"], "scores: got --to cvat, expected it with --to mot"),
        (["--to", "mot", "--no-track-ids"], "no-track-ids: got --to mot"),
        (["--to", "mot", "--detectors"], "detectors: got door, expected names such as MOT17-01"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(out, capsys, more, message):
    assert run(["convert", str(out / "run"), "--out", str(out / "new"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (out / "new").exists()


def test_a_place_that_cannot_be_written_is_named_with_what_is_expected(out, capsys, monkeypatch):
    (out / "file").write_text("mine")
    for place in (out / "file", out / "file" / "below"):
        assert run(["convert", str(out / "run"), "--to", "csv", "--out", str(place)]) == 2
        expected = f"out: got {place}, where a file is in the way; expected a folder\n"
        assert capsys.readouterr().err.endswith(expected)

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "convert.json")

    monkeypatch.setattr(LocalStore, "put_if_absent", refuse)
    assert run(["convert", str(out / "run"), "--to", "csv", "--out", str(out / "new")]) == 2
    expected = f"cannot write to {out / 'new'}: Read-only file system\n"
    assert capsys.readouterr().err.endswith(expected)


def test_without_tracks_it_is_refused(tmp_path, capsys):
    assert run(["convert", str(tmp_path), "--to", "csv", "--out", str(tmp_path / "new")]) == 2
    assert "tracks: no Parquet file" in capsys.readouterr().err


def test_tracks_are_converted_and_weights_exported_and_each_help_names_the_other(
    capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["convert", "--help"]) == 0
    text = capsys.readouterr().out
    assert "jde export" in text
    for name in KINDS:
        assert name in text
    assert run(["export", "--help"]) == 0
    assert "jde convert" in capsys.readouterr().out
