"""CITATION.cff: what the format asks for, and the version of this package."""

import tomllib

import yaml
from places import ROOT


def test_it_cites_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project["version"]
    assert citation["title"] == project["name"]
    assert citation["message"]
    assert citation["authors"]
    (paper,) = citation["references"]
    assert paper["title"] in (ROOT / "README.md").read_text()
