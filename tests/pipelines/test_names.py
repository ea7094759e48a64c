"""Names to ids: legal everywhere, readable, never two of one, the same tomorrow."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.names import (
    MOST_NAME_BYTES,
    listed,
    make_id,
    plain_names,
    safe_name,
    sequence_name,
)
from jde_ray.pipelines.output.checkpoints import part_key
from jde_ray.pipelines.output.layout import error_key, mot_key, tracks_key, video_key

ILLEGAL = set("<>:\"/\\|?*#%&{}^`~[]$!+=@;,' \t\n\r\0\x7f")  # Windows, S3, URLs, shells, Markdown
ODD = st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=())
CLUMSY = st.text(st.sampled_from("aZ9 .-_/é中한\u0301\u200d\u202e\ufe0f\u3164\0\x1b😀न्\udcff"))
NAMES = st.one_of(st.text(ODD, max_size=300), CLUMSY, st.text(st.characters(), min_size=200))


@settings(max_examples=80, deadline=None)
@given(NAMES)
def test_any_name_gives_an_id_that_is_legal_everywhere(name):
    safe = safe_name(name)
    assert safe == unicodedata.normalize("NFC", safe)
    assert 0 < len(safe.encode()) <= MOST_NAME_BYTES
    assert not ILLEGAL & set(safe)
    assert not {"Cc", "Cf", "Cs", "Co", "Cn", "Zs"} & {unicodedata.category(c) for c in safe}
    assert safe[0] not in ".-"
    assert safe_name(safe) == safe
    video_id = make_id(name, "/videos/x.mp4")
    assert sequence_name(video_id) == safe
    keys = [key(video_id) for key in (tracks_key, error_key, mot_key, video_key)]
    keys += [f"detections/{video_id}.parquet", part_key(video_id, "pass-0", 3000, "detections")]
    assert all(len(part.encode()) <= 255 for key in keys for part in key.split("/"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=50))
def test_videos_of_one_name_in_different_places_have_different_ids(places):
    ids = {make_id("front", f"/archive/{place}/front.mp4") for place in places}
    assert len(ids) == len(places)
    assert len({video_id.casefold() for video_id in ids}) == len(places)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("MOT16-11", "MOT16-11"),
        ("a--b_c.d", "a--b_c.d"),
        ("Straße Köln", "Straße-Köln"),
        ("Ko\u0308ln", "Köln"),
        ("東京駅 (北口)", "東京駅-北口"),
        ("हिन्दी", "हिन्दी"),
        ("กล้อง", "กล้อง"),
        ("كاميرا", "كاميرا"),
        ("cam\u202e4pm.exe", "cam4pm.exe"),  # would be shown as camexe.mp4
        ("❤️", "video"),
        ("???", "video"),
        ("..", "video"),
        (".tmp-a", "tmp-a"),  # the store passes over its own unfinished files
        ("-rf", "rf"),
        ("<script>alert(1)</script>", "script-alert-1-script"),
        ("[link](x) `code`", "link-x-code"),
        ("x" * 300, "x" * 200),
        ("駅" * 100, "駅" * 66),
        ("a" + "é" * 200, "a" + "é" * 99),
    ],
)
def test_names_stay_readable(name, safe):
    assert safe_name(name) == safe


def test_an_id_is_the_same_tomorrow():
    assert make_id("MOT16-11", "/data/MOT16-11") == "MOT16-11-dfb21e871d11c97e"
    assert make_id("東京", "s3://b/東京.mp4") == "東京-d448a40228786aeb"


def test_ids_of_older_versions_are_read():
    assert sequence_name("Stra-e-K-ln-8ca29d62") == "Stra-e-K-ln"
    assert sequence_name("a-0123456789ABCDEF") == "a-0123456789ABCDEF"
    assert sequence_name("a-0123abcd\n") == "a-0123abcd\n"


def test_many_names_are_cut_in_messages():
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(9)]) == "0, 1, 2, 3, 4, 5, 6, 7, ..."
    assert listed(["a", "b", "c"], most=2) == "a, b, ..."


def test_names_are_plain_unless_they_clash_even_in_case_or_with_an_id():
    plain, other = make_id("door", "/a/door"), make_id("door", "/b/door")
    assert plain_names([plain]) == {plain: "door"}
    assert plain_names([plain, other]) == {plain: plain, other: other}
    upper = make_id("Door", "/c/Door")
    assert plain_names([plain, upper]) == {plain: plain, upper: upper}
    third = make_id(plain, "/c/" + plain)  # a file that is called like an id
    named = plain_names([plain, other, third])
    assert len(set(named.values())) == 3
