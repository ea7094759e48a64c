import re
from dataclasses import replace

import numpy as np
import pytest

from jde_ray.models.metrics.ceiling import AS_REPORTED, TRUE_IDS
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.switches import Switch, count_kinds
from jde_ray.pipelines.report import failures
from jde_ray.pipelines.report.contact_sheet import AWAY, shots_of
from jde_ray.pipelines.report.failures import Case, failures_page, switch_columns
from jde_ray.pipelines.report.tables import FigureTable, table_card

SWITCH = Switch(
    frame=40, person=3, before=7, after=9, last_frame=25, gap=15, kind="after a gap",
    overlap_before=0.25, overlap_after=0.0, wrong_frames=1234,
)  # fmt: skip


def table(name="SEQ", **more):
    figures = {
        AS_REPORTED: {"IDF1": 50.0, "HOTA": 40.0, "IDs": 3},
        TRUE_IDS: {"IDF1": 75.0, "HOTA": float("nan"), "IDs": 0},
    }
    return FigureTable("key", "Title <1>", "ids", {name: figures, "OVERALL": figures}, **more)


def page(switches, cases=(), notes=()):
    counts = count_kinds([one for _, one in switches])
    kinds = FigureTable("kinds", "Kinds", "what", {"SEQ": counts, "OVERALL": counts})
    return failures_page("a against b", table(), kinds, [table()], switches, cases, notes)


def test_the_page_shows_figures_pictures_and_escapes_names():
    case = Case("<i>SEQ</i>", SWITCH, [("switch, 41", "data:image/jpeg;base64,AAAA")])
    text = page([("<i>SEQ</i>", SWITCH)], [case], ["Not <read>."])
    assert "<b>50.0</b><span>IDF1</span>" in text
    assert "<b>1,234</b><span>frames, wrong id</span>" in text
    assert "Person 3: id 7 to 9" in text
    assert "Frame 41, last seen 15 frames before. Overlap 0.25 before, 0.00 after" in text
    assert 'src="data:image/jpeg;base64,AAAA"' in text
    assert "Not &lt;read&gt;." in text
    assert "<i>SEQ" not in text
    assert "Title &lt;1&gt;" in text
    assert "img-src data:" in text  # its policy allows the pictures, and nothing else
    assert not re.search(r"<script|src=\"(?!data:)|https?:", text)


def test_a_long_list_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(failures, "MAX_LISTED", 2)
    text = page([("SEQ", SWITCH)] * 5)
    assert text.count("<td>SEQ</td><td>after a gap</td>") == 2
    assert "3 more are in switches.csv" in text


def test_columns_count_from_1_and_have_the_motion_only_where_it_is_known():
    columns = switch_columns([("SEQ", SWITCH)])
    assert (columns["frame"], columns["gap"], columns["overlap_before"]) == ([41], [15], [0.25])
    assert "camera_motion" not in columns
    moved = switch_columns([("SEQ", SWITCH), ("SEQ", replace(SWITCH, camera_motion=2.34))])
    assert moved["camera_motion"] == [None, 2.3]
    assert '<td class="n">-</td>' in page(
        [("SEQ", replace(SWITCH, camera_motion=2.34)), ("SEQ", SWITCH)]
    )
    assert switch_columns([])["frame"] == []


@pytest.mark.parametrize(("sequences", "is_long", "shown"), [(1, True, ["A"]), (1, False, ["A"]),
                         (2, True, ["OVERALL"]), (2, False, ["A", "B", "OVERALL"])])  # fmt: skip
def test_a_table_shows_a_lone_sequence_once_and_long_ones_behind_a_fold(sequences, is_long, shown):
    own = {"line": {"boxes": 1000, "Rcll": float("nan")}}
    names = ["A", "B"][:sequences]
    made = FigureTable("k", "T", "of", dict.fromkeys([*names, "OVERALL"], own), is_long=is_long)
    assert made.sequences == shown
    text = table_card(made)
    assert text.count("<table") == 1 + (len(shown) < sequences)
    assert '<td class="n">1,000</td><td class="n">-</td>' in text
    assert made.plain()["OVERALL"] == {"line": {"boxes": 1000, "Rcll": None}}


def person(*frames):
    tlbr = np.array([(f, 0, f + 10, 20) for f in frames], float)
    return BoxRows(np.array(frames), np.full(len(frames), 3), tlbr)


def test_shots_are_before_at_the_last_sighting_at_the_switch_and_later():
    shots = shots_of(SWITCH, person(*range(100)))
    assert [(one.label, one.frame) for one in shots] == [
        ("before", 25 - AWAY), ("last seen", 25), ("switch", 40), ("later", 40 + AWAY)
    ]  # fmt: skip
    assert shots[1].tlbr.tolist() == [25, 0, 35, 20]
    assert shots_of(SWITCH, person(*range(100)), stride=2)[0].frame == 25 - 2 * AWAY


def test_shots_outside_the_truth_are_the_nearest_or_left_out():
    shots = shots_of(SWITCH, person(20, 25, 40))
    assert [(one.label, one.frame) for one in shots] == [
        ("before", 20), ("last seen", 25), ("switch", 40)
    ]  # fmt: skip
