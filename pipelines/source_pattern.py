"""`--source-pattern`: the camera and the start of a video, read from its address.

    {camera}/{start:%Y%m%dT%H%M%S}      fits .../door/20240501T093000.mp4

A pattern fits the end of a path or key, in whole parts between `/`. `strptime` does not tell where
a time ends, so a regular expression is built from its directives, of which those with a fixed
number of digits are accepted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import NamedTuple

_DIRECTIVES = {
    "Y": "[0-9]{4}",
    "m": "[0-9]{2}",
    "d": "[0-9]{2}",
    "H": "[0-9]{2}",
    "M": "[0-9]{2}",
    "S": "[0-9]{2}",
    "f": "[0-9]{1,6}",
    "y": "[0-9]{2}",
    "j": "[0-9]{3}",
    "z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
    "s": "[0-9]{10}",  # from 2001 to 2286; a fraction may follow without a separator
}
_MOST_SHARED = 3  # `{camera}` and `*` beside others in a name; with more, names could take minutes
_LONGEST_NAME = 255  # characters; file systems allow no more bytes
_CAMERA = "(?P<camera>[^/]+?)"
_SAMPLE = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)  # for the example in messages


class Labels(NamedTuple):
    """What an address tells.

    Attributes:
        camera: Name of the camera; None if the pattern has no such field.
        start: When the recording began; without an offset unless the pattern has `%z` or `%s`.
            None if the pattern has no such field.
    """

    camera: str | None
    start: datetime | None


@dataclass(frozen=True)
class SourcePattern:
    """A pattern that was understood.

    Attributes:
        text: As the user wrote it.
        expression: The regular expression that `num_parts` of an address must fit.
        num_parts: Parts at the end of an address; 0 for all of it.
        example: An end that it fits, for messages.
    """

    text: str
    expression: re.Pattern[str]
    num_parts: int
    example: str

    @staticmethod
    def parse(text: str) -> SourcePattern:
        """Understand a pattern.

        Raises:
            ValueError: If it has another field or directive than those accepted, no field, or a
                time without a date.
        """
        text = unicodedata.normalize("NFC", text)
        whole = f"{text}/*" if text.endswith("/**") else text
        _check_parts(whole)
        expression, example, directives = "", "", list[str]()
        for literal, name, form in _fields(whole):
            expression += _literal(literal)
            example += literal
            if name == "camera":
                expression += "(?P=camera)" if "<camera>" in expression else _CAMERA
                example += "CAMERA"
            elif name == "start":
                expression += _time(form, directives)
                example += _SAMPLE.strftime(form)
        _check_time(directives)
        if not directives and "<camera>" not in expression:
            raise _refused(f"got {text!r}, expected {{camera}} or {{start:%Y...}} in it")
        is_deep = "**" in text and not _is_whole(text)
        num_parts = 0 if _is_whole(text) or is_deep else text.count("/") + 1
        prefix = "(?:.*/)?" if is_deep else ""
        compiled = re.compile(prefix + expression, re.DOTALL)
        return SourcePattern(text, compiled, num_parts, example)

    def match(self, uri: str, name: str) -> Labels:
        """What the address of a video tells.

        Args:
            uri: Absolute path, or `s3://bucket/key`, whose bucket counts only for a pattern that
                names it.
            name: Last part of the address as the video is called, without the suffix of a file;
                the pattern may have the suffix or not.

        Raises:
            ValueError: If it does not fit, or the digits are no time; the text says what was
                compared with what.
        """
        address = unicodedata.normalize("NFC", uri)
        if "://" in address and "://" not in self.text:
            address = "/" + address.partition("://")[2].partition("/")[2]
        folder = address.rpartition("/")[0]
        short = f"{folder}/{unicodedata.normalize('NFC', name)}"
        for text in (short, address):
            end = _end(text, self.num_parts)
            if max(map(len, end.split("/"))) > _LONGEST_NAME:
                continue
            if found := self.expression.fullmatch(end):
                values = found.groupdict()
                return Labels(values.pop("camera", None), _start(values) if values else None)
        shown = _end(short, self.num_parts or 3)
        raise ValueError(f"{shown!r} does not fit {self.text!r} as {self.example!r} does")


def _is_whole(text: str) -> bool:
    """Whether a pattern is of a whole address: a path from the root, or with the store."""
    return text.startswith("/") or "://" in text


def _end(text: str, num_parts: int) -> str:
    return "/".join(text.split("/")[-num_parts:]) if num_parts else text


def _check_parts(text: str) -> None:
    """Refuse what could be understood in two ways, or takes long on a name made for it."""
    parts = text.split("/")
    if wrong := [part for part in parts if "**" in part and part != "**"]:
        raise _refused(f"got {wrong[0]!r}, expected ** between two / only, for any folders")
    if parts.count("**") > 1:
        raise _refused(f"got {text!r}, expected ** once")
    before = parts[: parts.index("**")] if "**" in parts and not _is_whole(text) else []
    if before and not any(re.sub(r"\{camera\}|\*", "", part) for part in before):
        raise _refused(
            f"got {text!r}, expected a fixed name before **, such as archive/{{camera}}/**"
        )
    once = text.replace("{camera}", "*", 1).replace("{camera}", "")  # the second repeats the first
    numbers = [part.count("*") for part in once.split("/") if part != "**"]
    if (number := sum(one for one in numbers if one > 1)) > _MOST_SHARED:
        raise _refused(
            f"got {number} of {{camera}} and * that share a name, expected up to {_MOST_SHARED}"
        )


def _fields(text: str) -> Iterator[tuple[str, str, str]]:
    """Text before each field, its name and its format; both are empty behind the last one."""
    try:
        tokens = list(Formatter().parse(text))
    except ValueError as error:
        accepted = "{camera}, {start:%Y...}, and {{ for a brace"
        raise _refused(f"got {text!r} ({error}), expected {accepted}") from None
    for literal, name, form, conversion in tokens:
        if name is None:
            yield literal, "", ""
            continue
        has_form = re.search("%[A-Za-z]", form or "") is not None
        is_wrong = (bool(form), has_form) != ((name == "start",) * 2)
        if conversion or name not in ("camera", "start") or is_wrong:
            field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise _refused(
                f"got the field {{{field}}}, expected {{camera}}, {{start:%Y...}}, and * for"
                " anything else"
            )
        yield literal, name, form or ""


def _literal(text: str) -> str:
    known = {"**/": "(?:[^/]+/)*", "*": "[^/]*"}
    return "".join(known.get(piece) or re.escape(piece) for piece in re.split(r"(\*\*/|\*)", text))


def _time(form: str, directives: list[str]) -> str:
    """Expression of a time's format; one directive in two places has the same digits in both.

    Args:
        form: Text with directives.
        directives: Those of the fields before, to which new ones are appended.
    """
    expression = ""
    for piece in re.split("(%.?)", form, flags=re.DOTALL):
        letter = piece[1:]
        if not piece.startswith("%"):
            expression += re.escape(piece)
        elif letter == "%":
            expression += "%"
        elif letter not in _DIRECTIVES:
            accepted = " ".join(f"%{one}" for one in _DIRECTIVES)
            raise _refused(f"got {piece!r}, expected {accepted} %%")
        elif letter in directives:
            expression += f"(?P={letter})"
        else:
            directives.append(letter)
            expression += f"(?P<{letter}>{_DIRECTIVES[letter]})"
    return expression


def _check_time(directives: Collection[str]) -> None:
    """Refuse a time that says too little, or a thing twice."""
    own = set(directives)
    got = " ".join(f"%{one}" for one in directives)
    if not own:
        return
    if "s" in own:
        if own - {"s", "f"}:
            raise _refused(f"got {got}, expected nothing but %f beside %s")
        return
    is_date = len(own & {"Y", "y"}) == 1 and own & {"m", "d", "j"} in ({"m", "d"}, {"j"})
    if not is_date:
        raise _refused(f"got {got}, expected a date: %Y or %y, with %m and %d or with %j; or %s")
    times = [letter in own for letter in "HMSf"]
    if times != sorted(times, reverse=True):
        raise _refused(f"got {got}, expected %H before %M before %S before %f")


def _start(values: Mapping[str, str]) -> datetime:
    """The time in the digits behind directives.

    Raises:
        ValueError: If there is no such day or time.
    """
    fraction = int(values.get("f", "0").ljust(6, "0"))
    if "s" in values:
        return datetime.fromtimestamp(int(values["s"]), UTC) + timedelta(microseconds=fraction)
    year = int(values["Y"]) if "Y" in values else _whole_year(int(values["y"]))
    times = [int(values.get(letter, "0")) for letter in "HMS"]
    text = " ".join(f"%{letter} {digits}" for letter, digits in values.items())
    try:
        if "j" in values:
            day = datetime(year, 1, 1) + timedelta(days=int(values["j"]) - 1)
            if day.year != year:
                raise ValueError("day is out of range for year")
        else:
            day = datetime(year, int(values["m"]), int(values["d"]))
        start = day.replace(hour=times[0], minute=times[1], second=times[2], microsecond=fraction)
        zone = datetime.strptime(values["z"], "%z").tzinfo if "z" in values else None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"got {text}, which is no time ({error})") from None
    return start.replace(tzinfo=zone)


def _whole_year(number: int) -> int:
    return number + (1900 if number >= 69 else 2000)  # as POSIX


def _refused(message: str) -> ValueError:
    return ValueError(f"source-pattern: {message}")
