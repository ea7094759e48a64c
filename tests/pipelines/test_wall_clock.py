"""Local times become UTC, also twice a year when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.pipelines.wall_clock import (
    from_container,
    from_microseconds,
    from_text,
    read_zone,
    to_microseconds,
    to_text,
    to_utc,
)

BERLIN = read_zone("Europe/Berlin")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (datetime(2024, 1, 15, 9), utc(2024, 1, 15, 8)),
        (datetime(2024, 7, 15, 9), utc(2024, 7, 15, 7)),
        (datetime(2024, 10, 27, 2, 30), utc(2024, 10, 27, 0, 30)),  # twice: the first
        (datetime(2024, 10, 27, 2, 30, fold=1), utc(2024, 10, 27, 0, 30)),
        (datetime(2024, 10, 27, 3), utc(2024, 10, 27, 2)),
        (datetime(2024, 3, 31, 2, 30), utc(2024, 3, 31, 1, 30)),  # skipped: it is 03:30
        (datetime(2024, 3, 31, 3), utc(2024, 3, 31, 1)),
    ],
)
def test_local_times(local: datetime, expected: datetime) -> None:
    assert to_utc(local, BERLIN) == expected


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()))
def test_an_offset_of_its_own_is_kept_and_texts_and_numbers_say_the_same(moment) -> None:
    if moment.astimezone(UTC).astimezone(moment.tzinfo) != moment:
        return  # skipped by the clock
    found = to_utc(moment, BERLIN)
    assert (found, found.tzinfo) == (moment.astimezone(UTC), UTC)
    assert from_text(to_text(found)) == found
    assert from_microseconds(to_microseconds(found)) == found


@pytest.mark.parametrize("year", [1, 9999])
def test_years_at_the_end_of_the_calendar_are_refused(year: int) -> None:
    with pytest.raises(ValueError, match="year"):
        to_utc(datetime(year, 6, 1), BERLIN)


def test_zones_by_name_and_offset() -> None:
    assert read_zone("UTC") is UTC
    assert to_utc(datetime(2024, 7, 1, 12), read_zone("-03:30")) == utc(2024, 7, 1, 15, 30)
    assert to_utc(datetime(2024, 7, 1, 12), read_zone("+01:00")) == utc(2024, 7, 1, 11)


@pytest.mark.parametrize(
    "text", ["", "Europe", "Europa/Berlin", "../etc/passwd", "+25:00", "+1", "\0", "CET\n"]
)
def test_what_is_no_zone_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"timezone: got .*, expected a name such as") as caught:
        read_zone(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T09:30:00.250000Z", utc(2024, 5, 1, 9, 30, 0, 250_000)),
        ("2024-05-01T09:30:00+0200", utc(2024, 5, 1, 7, 30)),
        ("2024-05-01 09:30:00", utc(2024, 5, 1, 9, 30)),  # as AVI says it
        ("1904-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("1989-12-31T23:59:59Z", None),
        ("2026-01-01T23:00:00Z", utc(2026, 1, 1, 23)),  # a clock in another zone
        ("2026-01-03T00:00:00Z", None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_containers_are_believed_if_it_can_be_true(text: str, expected: datetime | None) -> None:
    assert from_container(text, NOW) == expected
    assert from_container(f" {text} ", NOW + timedelta(0)) == expected
