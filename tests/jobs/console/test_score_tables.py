import re

import pytest

from jde_ray.jobs.console.score_tables import print_scores
from jde_ray.models.metrics.tracking import COUNTS, RATIOS, SequenceScores

FIGURES = dict.fromkeys(RATIOS, 12.34) | dict.fromkeys(COUNTS, 123456)


def shown(capsys, monkeypatch, width, name):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    print_scores({name: FIGURES, "OVERALL": FIGURES}, ["X"], (RATIOS, COUNTS))
    return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("name", ["S-1", "a-rather-long-name"])
def test_figures_are_never_cut_however_narrow_the_terminal(capsys, monkeypatch, width, name):
    output = shown(capsys, monkeypatch, width, name)
    assert "…" not in output
    assert output.count(" 12.3") == 2 * len(RATIOS)
    assert output.count("123456") == 2 * len(COUNTS)
    assert all(len(line) <= width for line in output.splitlines())
    heads = [line.split()[1:] for line in output.splitlines() if line.startswith(" sequence")]
    assert [column for head in heads for column in head] == [*RATIOS, *COUNTS]
    assert max(map(len, heads)) - min(map(len, heads)) < len(COUNTS)  # no column is left alone


def test_figures_are_not_cut_on_a_terminal_without_styles(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")  # rich takes it as 80 columns wide
    print_scores({"S": FIGURES, "OVERALL": FIGURES}, [], (RATIOS, COUNTS))
    output = capsys.readouterr().out
    assert "…" not in output
    assert output.count("123456") == 2 * len(COUNTS)


def test_a_name_wider_than_the_terminal_is_shown_whole(capsys, monkeypatch):
    output = shown(capsys, monkeypatch, 30, "n" * 50)
    assert "n" * 50 in output
    assert output.count(" 12.3") == 2 * len(RATIOS)


@pytest.mark.parametrize("name", ["A", "n" * 300])
def test_a_pipe_has_one_table(capsys, name):
    figures = SequenceScores().figures()
    print_scores({name: figures, "OVERALL": figures}, [], (RATIOS, COUNTS))
    output = capsys.readouterr().out
    assert name in output
    (head,) = (line for line in output.splitlines() if "sequence" in line)
    assert head.split()[1:] == [*RATIOS, *COUNTS]
