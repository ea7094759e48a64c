"""Lists of sources are written by others: none of them ends a run, holds it up or copies files."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from fakes import COMPONENTS, CONFIG, Script
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import Reason, RunError
from jde_ray.pipelines.sources import lists
from jde_ray.pipelines.sources import search as sources
from jde_ray.pipelines.sources.discovery import Found, find_videos
from jde_ray.pipelines.sources.lists import read_entries
from jde_ray.pipelines.tracking import reference

KEPT = "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Script(frames=20).write(tmp_path, "good")
    return tmp_path


def search(text: str) -> Found:
    Path("list.txt").write_text(text)
    return find_videos("@list.txt")


@pytest.mark.parametrize("name", ["credentials", "secret.txt", "secret.csv", "link.txt"])
def test_no_line_of_a_file_that_a_list_names_gets_into_out(folder: Path, name: str) -> None:
    Path("credentials").write_text(f"[default]\n{KEPT}\nhttp://{KEPT}\ns3://{KEPT}\n")
    if name == "link.txt":
        Path(name).symlink_to("credentials")
    elif name != "credentials":
        Path(name).write_text(f"{KEPT}\n{KEPT},source\nhttp://{KEPT}\n")
    Path("list.txt").write_text(f"good.mp4\n@{name}\n")
    summary = reference.track(
        "@list.txt", str(folder / "out"), CONFIG, components=COMPONENTS, resources=ResourceConfig()
    )
    assert (summary.videos_done, summary.videos_failed) == (1, 1)
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert len(left) > 3
    assert not [path for path in left if b"wJalr" in path.read_bytes() or "wJalr" in path.name]
    assert "wJalr" not in str(summary)


def test_lines_of_a_list_in_a_list_are_told_by_their_number(folder: Path) -> None:
    Path("more.txt").write_text("good.mp4\n\nno.mp4\nneither.mp4\n")
    videos, failures = search("@more.txt\n")
    assert [video.name for video in videos] == ["good"]
    ((_, error),) = failures
    assert str(error) == "not_found: more.txt: no video behind 2 lines, the first is line 3"


def test_lists_that_name_each_other_are_read_once(folder: Path) -> None:
    for name, other in ("ab", "ba"):
        Path(f"{name}.txt").write_text(f"@{other}.txt\n" * 300 + "good.mp4\n")
    videos, failures = search("@a.txt\n@b.txt\n@list.txt\n" * 100)
    assert [video.name for video in videos] == ["good"]
    assert {error.reason for _, error in failures} == {Reason.UNSUPPORTED_FORMAT}
    assert len(failures) <= 3


@pytest.mark.parametrize("name", ["pipe.txt", "/dev/zero", "zero.txt", "folder.txt"])
def test_what_is_no_regular_file_is_no_list(folder: Path, name: str) -> None:
    os.mkfifo("pipe.txt")
    Path("zero.txt").symlink_to("/dev/zero")
    Path("folder.txt").mkdir()
    result: list[Found] = []
    work = threading.Thread(target=lambda: result.append(search(f"good.mp4\n@{name}\n")))
    work.daemon = True
    work.start()
    work.join(60)
    (found,) = result  # it came to its end
    assert [video.name for video in found.videos] == ["good"]
    assert [error.reason for _, error in found.failures] == [Reason.UNSUPPORTED_FORMAT]


def test_a_pipe_that_the_user_names_is_a_list(folder: Path) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text("good.mp4\n"))
    writer.start()
    assert [video.name for video in find_videos("@pipe").videos] == ["good"]
    writer.join()


def test_large_lists_are_refused_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("large.txt").open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    monkeypatch.setattr(lists, "MOST_LIST_BYTES", 1 << 20)
    _, failures = search("good.mp4\n@large.txt\n")
    assert "larger than the 1 MiB" in failures[0][1].detail
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_many_lines_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_MOST_FAILURES", 3)
    _, failures = search("good.mp4\n" + "".join(f"no-{number}\n" for number in range(9)))
    assert len(failures) == 4
    assert "no video behind 6 lines, the first is line 5" in str([e for _, e in failures])
    monkeypatch.setattr(sources, "_MOST_ENTRIES", 5)
    _, failures = search("good.mp4\n" * 9)
    assert "more than 5 lines" in failures[0][1].detail


def test_what_steers_a_terminal_or_is_endless_is_told_in_one_short_line(folder: Path) -> None:
    lines = ["a\0b.mp4", "\x1b[2Jgone.mp4", "x" * 100_000, "y" * 300, "z\u202e4pm.exe"]
    videos, failures = search("\n".join(["good.mp4", *lines]))
    assert [video.name for video in videos] == ["good"]
    assert len(failures) == len(lines)
    for video, error in failures:
        assert video.uri.isprintable()
        assert str(error).isprintable()
        assert len(str(error)) < 500
        assert len(video.uri) < 5000
        assert video.video_id
    with pytest.raises(RunError) as caught:
        search("http://\x1b[2J\0")
    assert str(caught.value).startswith(r"list.txt, line 1: source: got http://\x1b[2J\x00, ")


def test_a_csv_of_anything_is_refused_in_one_line(folder: Path) -> None:
    Path("a.csv").write_text(",".join(f"column{number}" for number in range(10_000)))
    with pytest.raises(RunError, match="expected a column `source`") as caught:
        find_videos("a.csv")
    assert len(str(caught.value)) < 300
    Path("b.csv").write_text('source\n"good.mp4"\n' + "x" * 200_000)
    videos, failures = find_videos("b.csv")
    assert [video.name for video in videos] == ["good"]
    assert "no CSV" in failures[0][1].detail
    Path("c.csv").write_bytes(b"source\r\n\xff\r\n")
    with pytest.raises(RunError, match="not a list in UTF-8"):
        find_videos("c.csv")
    Path("d.csv").write_text('camera,source\n1,"good.mp4"\n2\n3,\n')
    assert len(find_videos("d.csv").videos) == 1


def test_lines_end_where_editors_end_them(folder: Path) -> None:
    Path("list.txt").write_bytes("\ufeffa b\x85c\u2028d\r\n# no\r\n  e \r\n\nf".encode())
    found = [(entry.number, entry.source) for entry in read_entries(Path("list.txt"))]
    assert found == [(1, "a b\x85c\u2028d"), (3, "e"), (5, "f")]


ENTRY = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["good.mp4", "@list.txt", "@more.txt", "more.csv", "*.mp4", "[", "~", "~x/a"]),
    st.sampled_from(["@", "@@list.txt", "..", "/", "\0", "@\0", "**/**/**/*.mp4", "a.csv", "@/"]),
).filter(lambda entry: entry.strip() not in {"/", "//", "..", "."})  # no search of this machine


@settings(max_examples=40, deadline=None)
@given(st.lists(ENTRY, max_size=12), st.lists(ENTRY, max_size=6))
def test_any_list_ends_with_videos_and_one_line_each(tmp_path_factory, lines, more) -> None:
    place = tmp_path_factory.mktemp("lists")
    with contextlib.chdir(place):
        Path("good.mp4").write_text("{}")
        for name in ("more.txt", "more.csv"):
            Path(name).write_text("\n".join(["source", *more]))
        Path("list.txt").write_text("\n".join(["good.mp4", *lines]))
        if any("://" in entry.source for entry in read_entries(Path("list.txt"))):
            with pytest.raises(RunError, match=r"list.txt, line \d+: source: got"):
                find_videos("@list.txt")
            return
        videos, failures = find_videos("@list.txt")
    assert str(place / "good.mp4") in {video.uri for video in videos}
    ids = [video.video_id for video in [*videos, *(video for video, _ in failures)]]
    assert len(set(ids)) == len(ids)
    for video, error in failures:
        assert video.uri.isprintable()
        assert str(error).isprintable()
        json.dumps(video.uri).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("@list.txt", "", "list.txt names no source, expected one per line"),
        ("@list.txt", "# all of them are comments\n\n", "list.txt names no source"),
        ("list.csv", "source\n", "list.csv names no source"),
        ("@list.txt", "\n# a\nno.mp4\nneither.mp4\n", "list.txt, line 3: no.mp4 does not exist"),
        ("@none.txt", None, "none.txt: no such file"),
        ("@.", None, "a folder, no list; it is searched if named without the @"),
    ],
)
def test_a_list_without_a_video_says_why(
    folder: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        Path(name.removeprefix("@")).write_text(content)
    with pytest.raises(RunError) as caught:
        find_videos(name)
    assert message in str(caught.value)


def test_an_error_of_a_list_says_its_line_and_the_run_goes_on(folder: Path) -> None:
    found = search("good.mp4\nno.mp4\n")
    ((_, error),) = found.failures
    assert str(error) == "not_found: list.txt, line 2: no.mp4 does not exist"
    assert len(found.videos) == 1
