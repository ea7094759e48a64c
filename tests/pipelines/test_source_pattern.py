"""Cameras and times in addresses: what a pattern was made from is what it reads."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.pipelines.source_pattern import SourcePattern

NINE = datetime(2024, 5, 1, 9, 30)
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))
TIMES = st.datetimes(datetime(1000, 1, 1), datetime(9998, 12, 31))
RECENT = st.datetimes(datetime(2001, 9, 11), datetime(2068, 12, 31))
FORMS = [
    "%Y%m%dT%H%M%S",
    "%Y-%m-%d_%H-%M-%S",
    "%Y/%m/%d/%H.%M",
    "%Y-%j",
    "%d.%m.%Y %H%%%M",
    "%Y%m%d",
]


def read(pattern: str, uri: str, name: str | None = None) -> tuple[str | None, datetime | None]:
    stem = uri.rpartition("/")[2].rpartition(".")[0] if name is None else name
    return tuple(SourcePattern.parse(pattern).match(uri, stem))


def refused(pattern: str) -> str:
    with pytest.raises(ValueError, match="source-pattern: got") as caught:
        SourcePattern.parse(pattern)
    text = str(caught.value)
    assert "\n" not in text
    assert "expected" in text
    return text


@pytest.mark.parametrize("form", FORMS)
@given(start=TIMES, camera=NAMES, above=st.lists(NAMES, max_size=3))
def test_a_time_that_was_written_with_it_is_read_back(form, start, camera, above) -> None:
    written = start.strftime(form)
    wanted = datetime.strptime(written, form)
    uri = "/".join(["", *above, camera, f"{written}.mp4"])
    found, moment = read(f"{{camera}}/{{start:{form}}}", uri, written.rpartition("/")[2])
    assert moment == wanted
    assert found == normalize("NFC", camera)


@given(
    RECENT, st.integers(-23, 23), st.sampled_from(["%y%m%dT%H%M%S.%f%z", "%s%f", "%z_%y%j%H%M%S%f"])
)
def test_offsets_fractions_short_years_and_unix_times_are_read_back(start, hours, form) -> None:
    start = start.replace(tzinfo=timezone(timedelta(hours=hours)))
    seconds = str(int(start.timestamp()))  # `%s` of strftime knows no offset
    written = start.strftime(form.replace("%s", seconds))
    assert read(f"{{start:{form}}}", f"s3://bucket/{written}.mp4", written) == (None, start)


@given(st.text(st.sampled_from("{}%YmdHMSfyjzs*/:!-ab0 ."), max_size=40), NAMES)
def test_any_pattern_is_understood_or_refused_in_one_line(text: str, name: str) -> None:
    try:
        labels = SourcePattern.parse(text).match(f"/a/b/{name}.mp4", name)
    except ValueError as error:
        said = str(error)
    else:
        said = f"camera {labels.camera!r}"
    assert re.match(r"source-pattern: got|.* does not fit|got .* no time|camera (None|'.)", said)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("pattern", "uri", "camera", "start"),
    [
        ("{camera}/{start:%Y%m%dT%H%M%S}", "/a/door/20240501T093000.mp4", "door", NINE),
        ("{camera}_{start:%Y-%m-%d_%H-%M-%S}", "s3://b/a_1_2024-05-01_09-30-00.ts", "a_1", NINE),
        # suffixes of files may be there; the whole address too
        ("{camera}/{start:%Y%m%dT%H%M%S}.mp4", "/a/door/20240501T093000.mp4", "door", NINE),
        ("/a/{camera}/**", "/a/door/2024/05/x.mp4", "door", None),
        ("s3://b/{camera}/*", "s3://b/door/x.mp4", "door", None),
        ("/{camera}/**", "s3://b/door/2024/05/x.mp4", "door", None),
        # a time in several parts, and said twice
        ("{start:%Y-%m-%d}/{start:%H}/{camera}/{start:%M.%S}", "/2024-05-01/09/d/30.00.mp4",
         "d", NINE),
        ("{camera}/{start:%Y%m%d}/{start:%Y%m%d}-{start:%H%M}", "/d/20240501/20240501-0930.mp4",
         "d", NINE),
        ("camera={camera}/day={start:%Y-%m-%d}/*", "/camera=d/day=2024-05-01/7.mp4",
         "d", datetime(2024, 5, 1)),
        ("/c/{camera}/**/{start:%Y%m%dT%H%M}-*", "/c/d/e/f/20240501T0930-x.mp4", "d", NINE),
        ("**/{camera}/{start:%Y%m%dT%H%M}-*", "/c/d/20240501T0930-x.mp4", "d", NINE),
        ("cams/{camera}/**/{start:%Y%m%dT%H%M}", "/cams/d/20240501T0930.mp4", "d", NINE),
        ("{{{camera}}}", "/a/{d}.mp4", "d", None),
        ("{camera}/*", "s3://b/Tu\u0308r/x.mp4", "T\u00fcr", None),  # composed, as typed names are
    ],
)  # fmt: skip
def test_layouts_of_recorders(pattern, uri, camera, start) -> None:
    assert read(pattern, uri) == (camera, start)


@pytest.mark.parametrize(
    ("pattern", "uri", "said"),
    [
        ("{camera}/{start:%Y%m%d}", "/a/door/clip.mp4", "'door/clip' does not fit"),
        ("{camera}/{start:%Y%m%d}", "/a/door/20240230.mp4", "%d 30, which is no time"),
        ("{camera}/{start:%Y%j}", "/a/door/2023366.mp4", "no time"),
        ("{camera}/{start:%Y%m%d}", "/20240501.mp4", "'CAMERA/20240501' does"),  # no folder
        ("{camera}/{start:%Y%m%d}", "s3://door/20240501.mp4", "not fit"),  # a bucket is no camera
        ("{camera}/x-{camera}", "/a/door/x-gate.mp4", "not fit"),
        ("door/{camera}", "/a/backdoor/x.mp4", "not fit"),  # whole parts
        ("/a/{camera}/*", "/b/a/door/x.mp4", "not fit"),
    ],
)
def test_what_does_not_fit_says_what_was_compared(pattern, uri, said) -> None:
    with pytest.raises(ValueError, match=r"fit|no time") as caught:
        read(pattern, uri)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_folder_keeps_what_looks_like_a_suffix() -> None:
    assert read("{camera}/{start:%Y.%m.%d}", "/a/d/2024.05.01", "2024.05.01")[1] == datetime(
        2024, 5, 1
    )


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("clip", "expected {camera} or {start:%Y...}"),
        ("{cam}/*", "the field {cam}"),  # a camera that is misspelt is not ignored
        ("{}/{camera}", "the field {}"),
        ("{camera!r}", "the field {camera!r}"),
        ("{camera.x}", "the field {camera.x}"),
        ("{camera:>9}", "the field {camera:>9}"),
        ("{start}", "the field {start}"),
        ("{camera}/{start:today}", "the field {start:today}"),
        ("{camera", "expected '}'"),
        ("{start:%B %d %Y}", "got '%B', expected %Y %m %d"),
        ("{start:%Y%m%d%}", "got '%'"),
        ("{start:%H%M}", "expected a date"),
        ("{start:%Y%m}", "expected a date"),
        ("{start:%Y%y%m%d}", "expected a date"),
        ("{start:%Y%m%d%j}", "expected a date"),
        ("{start:%Y%m%dT%M}", "expected %H before %M"),
        ("{start:%s%H}", "beside %s"),
        ("a**/{camera}", "** between two /"),
        ("**/{camera}/**/y", "expected ** once"),
        ("{camera}/**/x", "a fixed name before **"),  # at which depth?
        ("*/{camera}/**", "a fixed name before **"),
        ("{camera}-*-*-*-*", "5 of {camera} and * that share a name"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(pattern: str, said: str) -> None:
    assert said in refused(pattern)


def test_a_name_made_to_be_slow_is_not() -> None:
    pattern = SourcePattern.parse("{camera}-{camera}-*-*0/**/*")
    for name in ("-" * 250, "-" * 1000, "-/" * 500):
        with pytest.raises(ValueError, match="not fit"):
            pattern.match(f"s3://a/{name}/x.mp4", "x")


def test_unix_times_are_in_utc() -> None:
    assert read("{start:%s}", "/a/1714555800.mp4")[1] == NINE.replace(tzinfo=UTC)
