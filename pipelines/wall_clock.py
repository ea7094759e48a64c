"""When a video began, in UTC: time zones, texts, and the plausible part of what containers say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_FIRST_YEAR = 1990  # of a container's time; clocks that were never set say 1904, 1970 or 1980


def read_zone(text: str) -> tzinfo:
    """A time zone by its name (`Europe/Berlin`) or by its offset from UTC (`+01:00`).

    >>> read_zone("UTC"), read_zone("-03:30")
    (datetime.timezone.utc, datetime.timezone(datetime.timedelta(days=-1, seconds=73800)))

    Raises:
        ValueError: If there is no such zone.
    """
    if text == "UTC":
        return UTC
    if (offset := _OFFSET.fullmatch(text)) and offset[2] < "24" and offset[3] < "60":
        length = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-length if offset[1] == "-" else length)
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # a folder of zones, such as Europe, is an OSError
        accepted = "a name such as Europe/Berlin, an offset such as +01:00, or UTC"
        if not available_timezones():
            accepted += " (this machine has no names; `pip install tzdata` brings them)"
        raise ValueError(f"timezone: got {text!r}, expected {accepted}") from None


def to_utc(moment: datetime, zone: tzinfo) -> datetime:
    """A time in UTC; one without an offset is local time in `zone`.

    Of the two times that a clock shows twice in autumn the first is meant. A time that a clock
    skips in spring counts on from before the change: 02:30 is 03:30.

    Raises:
        ValueError: If it is outside the years 2 to 9998.
    """
    if not 2 <= moment.year <= 9998:
        raise ValueError(f"got the year {moment.year}, expected 2 to 9998")
    own = moment if moment.utcoffset() is not None else moment.replace(tzinfo=zone, fold=0)
    return own.astimezone(UTC)


def to_text(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, with a fraction if there is one: `2024-05-01T07:30:00+00:00`."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def from_text(text: str | None) -> datetime | None:
    """Inverse of `to_text`; a text without an offset is in UTC.

    Raises:
        ValueError: If it is no time in ISO 8601.
    """
    return None if text is None else to_utc(datetime.fromisoformat(text), UTC)


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 in UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(number: int) -> datetime:
    """Inverse of `to_microseconds`.

    Raises:
        OverflowError: If it is outside the years that `datetime` knows.
    """
    return _EPOCH + timedelta(microseconds=number)


def from_container(text: str, now: datetime) -> datetime | None:
    """A container's `creation_time`, in UTC if it says no zone; None if it cannot be true.

    Args:
        text: The value, as libav gives it.
        now: The present; a clock that is ahead by more than a day is not believed.
    """
    try:
        moment = to_utc(datetime.fromisoformat(text.strip()), UTC)
    except (ValueError, OverflowError):
        return None
    is_plausible = moment.year >= _FIRST_YEAR and moment <= now + timedelta(days=1)
    return moment if is_plausible else None
