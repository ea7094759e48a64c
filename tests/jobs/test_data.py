from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from original_layouts import WRITERS, mot

from jde_ray.jobs.cli import ROOT, run
from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.errors import ExitCode

PUBLISHED = ("mot17", "caltech", "citypersons", "cuhksysu", "prw", "eth")


def data(*arguments: object) -> int:
    return run(["data", *map(str, arguments)])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    settings = {
        "network": "small",
        "training": {"epochs": 1},
        "sources": [{"kind": "sequence", "path": "train/MOT17-02-SDP", "every": 2}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    mot(tmp_path, "MOT17-02-SDP")
    return tmp_path / "recipe.yaml"


def test_a_set_is_converted_and_what_was_written_is_said(tmp_path: Path, capsys):
    mot(tmp_path / "in", "MOT17-02-SDP")
    assert data("convert", "mot17", tmp_path / "in", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "mot17.train: 3 images, 3 boxes, 2 identities (`identities: 4`); the paper: 5.3K (53K in "
        "print), 112K, 0.5K",
        "by the rules: 1 x not flagged, 2 x another class, 1 x outside the picture",
        "1 sequences, videos or splits",
    ]
    assert said.err == ""


def test_what_cannot_be_done_is_one_line_and_code_2(tmp_path: Path, capsys):
    (tmp_path / "in").mkdir()
    for arguments, message in (
        (["voc", tmp_path / "in"], "name: got 'voc', expected caltech | citypersons"),
        (["prw", tmp_path / "in", "--min-visible", 0.5], "min-visible: got 0.5 for prw"),
        (["prw", tmp_path / "none"], "source: "),
        (["prw", tmp_path / "in"], "no frame_train.mat"),
    ):
        assert data("convert", arguments[0], arguments[1], tmp_path / "out", *arguments[2:]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_three_conversions_name_each_other(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    names = {"convert": ("jde export", "jde data convert"),
             "export": ("jde convert", "jde data convert"),
             "data convert": ("jde convert", "jde export", *KINDS)}  # fmt: skip
    for verb, others in names.items():
        assert run([*verb.split(), "--help"]) == 0
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for other in others:
            assert other in text, verb


def test_the_published_recipe_fits_the_converted_sets(tmp_path: Path, capsys):
    out = tmp_path / "out"
    for name in PUBLISHED:
        WRITERS[name](tmp_path / name)
        more = ("--min-height", 10) if name == "caltech" else ()
        assert data("convert", name, tmp_path / name, out, *more) == 0
    mixture = json.loads((out / "ccmcpe.json").read_text())
    assert tuple(mixture["train"]) == PUBLISHED
    assert set(mixture["test_emb"].values()) == {"caltech.10k.val", "cuhksysu.val", "prw.val"}
    capsys.readouterr()
    path = ROOT / "jobs" / "recipes" / "train_published.yaml"
    tests = ("--test", "prw.val", "--test", "cuhksysu.val", "--test", "citypersons.val")
    assert data("check", path, "--data", out, "--json", *tests) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identity_classes"] == 14_455  # those of the published classifier
    assert found["problems"]["found"] == []
    assert [one["published"]["name"] for one in found["sources"]] == [
        "M16", "CT", "CP", "CS", "PRW", "ETH"
    ]  # fmt: skip
    assert [one["num_numbers"] for one in found["sources"]] == [4, 7, 0, 11_931, 933, 0]
    assert not [one for one in found["overlaps"] if one["is_wrong"]]
    assert {one["sequence"] for one in found["overlaps"]} >= {"ETH-Bahnhof", "Venice-2"}
    assert data("check", path, "--data", out, "--test", "prw.train") == 3
    lines = capsys.readouterr().out.splitlines()
    assert "OVERLAP: prw.train learns from PRW/images/c1s1_000151.jpg, PRW" in "".join(lines)
    assert lines[2].split()[:8] == ["list", "mot17.train", "3", "3", "2", "3", "3", "2"]
    assert lines[2].endswith("5.3K (53K in print)   112K        0.5K")
    assert lines[8].split()[-3:] == ["54K", "270K", "8.7K"]


def test_a_recipe_is_checked(recipe: Path, tmp_path: Path, capsys):
    plot = tmp_path / "sheet.png"
    assert data("check", recipe, "--data", tmp_path, "--plot", plot) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[1:] == ["train/MOT17-02-SDP", *"343", "2", *"2112"]
    assert lines[4] == "every: training takes every n-th image of a source"
    assert lines[-1].startswith("not to be scored on, since learned from, MOT16 and MOT17 train: ")
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_what_is_wrong_ends_with_code_3(recipe: Path, tmp_path: Path, capsys):
    (tmp_path / "train/MOT17-02-SDP/img1/000002.jpg").write_bytes(b"no")
    assert data("check", recipe, "--data", tmp_path, "--test", "Venice-2") == ExitCode.SOME_FAILED
    said = capsys.readouterr()
    wanted = "OVERLAP: train/MOT17-02-SDP learns from Venice-2 = MOT17-02-SDP of Venice-2"
    assert wanted in said.out.splitlines()
    assert said.err.splitlines()[-1] == "wrong: 1 x unreadable image"
    assert data("check", tmp_path / "none.yaml", "--data", tmp_path) == ExitCode.REFUSED
